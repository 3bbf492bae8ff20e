// The Go side of roving's benches: the same work as benches/rust, the same lines on standard output.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sort"
	"strconv"
	"strings"
	"time"
)

const usage = `usage: go-bench list
       go-bench sample BENCH... [option...]    each bench, one after the other
       go-bench serve [option...]              reads "BENCH go" lines, answers each with a sample
       go-bench echo-server go [--workers N]   serves until its standard input ends
       go-bench tls-client PORT [option...]    loads a TLS echo server

  --workers N    GOMAXPROCS (the number of cores)
  --samples N    how many samples of each (5)
  --length MS    how long a sample takes (100)
  --limit S      what a sample may take before the process gives up (60)
  --quick        smaller sizes
  --connections N, --size BYTES, --seconds S    of the client (64, 100, 2), after a tenth of that to warm up`

// Ends the process when a sample takes too long.
const exitLimit = 3

type options struct {
	words   []string
	samples int
	length  time.Duration
	limit   time.Duration

	connections, size int
	seconds           float64
}

// A sample is the time that so many operations took.
type sample struct {
	elapsed time.Duration
	ops     int
}

func (s sample) nanosPerOp() float64 {
	return float64(s.elapsed.Nanoseconds()) / float64(s.ops)
}

func main() {
	opts := parse(os.Args[1:])
	switch {
	case len(opts.words) == 1 && opts.words[0] == "list":
		list()
	case len(opts.words) > 1 && opts.words[0] == "sample":
		sampleAll(opts)
	case len(opts.words) == 1 && opts.words[0] == "serve":
		serve(opts)
	case len(opts.words) == 2 && opts.words[0] == "echo-server":
		if err := echoServer(); err != nil {
			die("the echo server ended: %v", err)
		}
	case len(opts.words) == 2 && opts.words[0] == "tls-client":
		if err := tlsClient(opts.words[1], opts.connections, opts.size, opts.seconds); err != nil {
			die("the TLS client failed: %v", err)
		}
	default:
		die("%s", usage)
	}
}

func die(format string, args ...any) {
	fmt.Fprintf(os.Stderr, format+"\n", args...)
	os.Exit(1)
}

func parse(args []string) options {
	opts := options{samples: 5, length: 100 * time.Millisecond, limit: 60 * time.Second,
		connections: 64, size: 100, seconds: 2}
	for i := 0; i < len(args); i++ {
		number := func() int {
			i++
			if i == len(args) {
				die("%s needs a value", args[i-1])
			}
			value, err := strconv.Atoi(args[i])
			if err != nil || value < 1 {
				die("%s needs a number, not %q", args[i-1], args[i])
			}
			return value
		}
		switch arg := args[i]; arg {
		case "--workers":
			runtime.GOMAXPROCS(number())
		case "--samples":
			opts.samples = number()
		case "--length":
			opts.length = time.Duration(number()) * time.Millisecond
		case "--limit":
			opts.limit = time.Duration(number()) * time.Second
		case "--connections":
			opts.connections = number()
		case "--size":
			opts.size = number()
		case "--seconds":
			i++
			if i == len(args) {
				die("--seconds needs a value")
			}
			seconds, err := strconv.ParseFloat(args[i], 64)
			if err != nil || seconds <= 0 {
				die("--seconds needs a number above 0")
			}
			opts.seconds = seconds
		case "--quick":
			quick = true
		default:
			if strings.HasPrefix(arg, "-") {
				die("unknown option %s", arg)
			}
			opts.words = append(opts.words, arg)
		}
	}
	return opts
}

func list() {
	for _, b := range benches {
		line, _ := json.Marshal(map[string]any{"bench": b.name, "peers": []string{"go"}})
		fmt.Println(string(line))
	}
}

func find(name string) *bench {
	for i := range benches {
		if benches[i].name == name {
			return &benches[i]
		}
	}
	return nil
}

type sampler struct {
	opts   options
	rounds map[string]int
}

// One sample. The first of a bench warms it up too: it finds out how many rounds to do.
func (s *sampler) sample(b *bench) sample {
	watchdog := time.AfterFunc(s.opts.limit, func() {
		fmt.Printf("{\"error\": \"took more than %d s\"}\n", int(s.opts.limit.Seconds()))
		os.Exit(exitLimit)
	})
	defer watchdog.Stop()
	if b.once {
		return b.run(1)
	}
	rounds, known := s.rounds[b.name]
	if !known {
		rounds = calibrate(b, 1, s.opts.length)
		s.rounds[b.name] = rounds
	}
	start := time.Now()
	result := b.run(rounds)
	// It may become much faster or slower later.
	switch took := time.Since(start); {
	case took > 4*s.opts.length && rounds >= 4:
		s.rounds[b.name] = rounds / 4
	case took < s.opts.length/2:
		rounds = calibrate(b, rounds, s.opts.length)
		s.rounds[b.name] = rounds
		result = b.run(rounds)
	}
	return result
}

// How many rounds take about that long.
func calibrate(b *bench, rounds int, length time.Duration) int {
	for {
		start := time.Now()
		b.run(rounds)
		wanted := length.Seconds() / time.Since(start).Seconds()
		if wanted < 1.5 {
			if more := int(float64(rounds) * wanted); more > rounds {
				return more
			}
			return rounds
		}
		if wanted > 10 {
			wanted = 10
		}
		rounds = int(float64(rounds)*wanted) + 1
	}
}

func sampleAll(opts options) {
	s := sampler{opts, map[string]int{}}
	for _, name := range opts.words[1:] {
		b := find(name)
		if b == nil {
			die("there is no bench %q: see `go-bench list`", name)
		}
		var figures []float64
		for i := 0; i < opts.samples; i++ {
			figures = append(figures, s.sample(b).nanosPerOp())
		}
		sort.Float64s(figures)
		fmt.Printf("%-20s %-8s %12.1f ns  (from %.1f to %.1f)\n",
			b.name, "go", figures[len(figures)/2], figures[0], figures[len(figures)-1])
	}
}

func serve(opts options) {
	s := sampler{opts, map[string]int{}}
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		name, _, _ := strings.Cut(lines.Text(), " ")
		b := find(name)
		if b == nil {
			fmt.Println(`{"error": "no such case"}`)
			continue
		}
		result := s.sample(b)
		fmt.Printf("{\"ns\": %.3f, \"ops\": %d}\n", result.nanosPerOp(), result.ops)
	}
}

func echoServer() error {
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		os.Exit(0)
	}()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Printf("{\"port\": %d}\n", listener.Addr().(*net.TCPAddr).Port)
	for {
		// TCP_NODELAY is set by default.
		conn, err := listener.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			buffer := make([]byte, 1024)
			for {
				n, err := conn.Read(buffer)
				if err != nil {
					return
				}
				if _, err := conn.Write(buffer[:n]); err != nil {
					return
				}
			}
		}()
	}
}
