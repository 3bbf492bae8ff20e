module roving/benches

go 1.19
