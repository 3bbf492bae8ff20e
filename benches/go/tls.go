package main

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"sort"
	"sync"
	"sync/atomic"
	"time"
)

// Loads a TLS echo server: each connection has one message on its way at a time. Its line is that of the Rust echo client.
func tlsClient(port string, connections, size int, seconds float64) error {
	// Checking certificates is not what is measured.
	config := &tls.Config{InsecureSkipVerify: true}
	conns := make([]*tls.Conn, connections)
	for i := range conns {
		raw, err := net.Dial("tcp", "127.0.0.1:"+port)
		if err != nil {
			return err
		}
		conns[i] = tls.Client(raw, config)
		if err := conns[i].Handshake(); err != nil {
			return err
		}
	}
	begin := time.Now().Add(time.Duration(seconds / 10 * float64(time.Second)))
	end := begin.Add(time.Duration(seconds * float64(time.Second)))
	latencies := make([][]time.Duration, connections)
	var failed atomic.Value
	var group sync.WaitGroup
	for i, conn := range conns {
		group.Add(1)
		go func(i int, conn *tls.Conn) {
			defer group.Done()
			message, buffer := make([]byte, size), make([]byte, size)
			for {
				sent := time.Now()
				if !sent.Before(end) {
					return
				}
				_, err := conn.Write(message)
				if err == nil {
					_, err = io.ReadFull(conn, buffer)
				}
				if err != nil {
					failed.Store(err.Error())
					return
				}
				if now := time.Now(); !now.Before(begin) {
					latencies[i] = append(latencies[i], now.Sub(sent))
				}
			}
		}(i, conn)
	}
	group.Wait()
	if text := failed.Load(); text != nil {
		return fmt.Errorf("%s", text)
	}
	var all []time.Duration
	for _, some := range latencies {
		all = append(all, some...)
	}
	if len(all) == 0 {
		return fmt.Errorf("no message came back")
	}
	sort.Slice(all, func(i, j int) bool { return all[i] < all[j] })
	at := func(part int) int64 { return all[len(all)*part/100].Nanoseconds() }
	nanos := time.Since(begin).Nanoseconds()
	fmt.Printf("{\"ns\": %.3f, \"ops\": %d, \"median_ns\": %d, \"p99_ns\": %d}\n",
		float64(nanos)/float64(len(all)), len(all), at(50), at(99))
	return nil
}
