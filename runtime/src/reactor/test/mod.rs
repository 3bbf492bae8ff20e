mod driver;
mod machine;
mod place;
mod table;
