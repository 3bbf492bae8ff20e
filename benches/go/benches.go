package main

import (
	"runtime"
	"sort"
	"sync"
	"sync/atomic"
	"time"
)

// The constants of benches/rust/src/shared.rs.
const (
	batch   = 1000
	buffer  = 64
	rivals  = 4
	never   = time.Hour
	fibN    = 22
	fibCutN = 32
	cut     = 20
	chunkN  = 64
	steps   = 200_000
	idleGap = 150 * time.Microsecond
)

var quick bool

type bench struct {
	name string
	// One round makes a sample.
	once bool
	run  func(rounds int) sample
}

// Left out: what starts from a plain thread, since Go has none to start from; wake_loaded, since a woken
// goroutine belongs to its waker's processor, and only an idle one takes it from there.
var benches = []bench{
	{"spawn_join", false, spawnJoin},
	{"spawn_batch", false, spawnBatch},
	{"switch", false, switches},
	{"pingpong", false, func(n int) sample { return pingpong(n, false) }},
	{"pingpong_across", false, func(n int) sample { return pingpong(n, true) }},
	{"wake_idle", false, wakeIdle},
	{"channel_rendezvous", false, func(n int) sample { return channel(n, 0) }},
	{"channel_buffered", false, func(n int) sample { return channel(n, buffer) }},
	{"channel_pingpong", false, channelPingpong},
	{"mutex_pingpong", false, mutexPingpong},
	{"mutex_contended", false, mutexContended},
	{"skynet", false, skynet},
	{"fib", false, fib},
	{"fib_cutoff", false, fibCutoff},
	{"forkjoin", false, forkjoin},
	{"timer_arm_cancel", false, timerArmCancel},
	{"timers_cancel", false, timersCancel},
	{"timers_fire", true, timersFire},
}

var sink uint64

func spawnJoin(rounds int) sample {
	var done sync.WaitGroup
	result := uint64(0)
	start := time.Now()
	for i := 0; i < rounds; i++ {
		i := uint64(i)
		done.Add(1)
		go func() {
			result = i
			done.Done()
		}()
		done.Wait()
	}
	elapsed := time.Since(start)
	sink += result
	return sample{elapsed, rounds}
}

func spawnBatch(rounds int) sample {
	results := make([]uint64, batch)
	var done sync.WaitGroup
	start := time.Now()
	for i := 0; i < rounds; i++ {
		done.Add(batch)
		for j := range results {
			j := j
			go func() {
				results[j] = uint64(j)
				done.Done()
			}()
		}
		done.Wait()
	}
	return sample{time.Since(start), rounds * batch}
}

func switches(rounds int) sample {
	yields := func() {
		for i := 0; i < rounds; i++ {
			runtime.Gosched()
		}
	}
	var done sync.WaitGroup
	done.Add(1)
	start := time.Now()
	go func() {
		yields()
		done.Done()
	}()
	yields()
	done.Wait()
	return sample{time.Since(start), 2 * rounds}
}

// There is no park: the nearest is a channel that carries nothing. Across workers means that each
// goroutine has an operating system's thread to itself: goroutines cannot be told where to run.
func pingpong(rounds int, across bool) sample {
	there, back := make(chan struct{}, 1), make(chan struct{}, 1)
	lock := func() {
		if across {
			runtime.LockOSThread()
		}
	}
	start := time.Now()
	go func() {
		lock()
		for i := 0; i < rounds; i++ {
			<-there
			back <- struct{}{}
		}
	}()
	finished := make(chan struct{})
	go func() {
		lock()
		for i := 0; i < rounds; i++ {
			there <- struct{}{}
			<-back
		}
		close(finished)
	}()
	<-finished
	return sample{time.Since(start), 2 * rounds}
}

func spinFor(d time.Duration) {
	for start := time.Now(); time.Since(start) < d; {
	}
}

func wakeIdle(rounds int) sample {
	wake := make(chan struct{}, 1)
	origin := time.Now()
	var answered int64
	go func() {
		for range wake {
			atomic.StoreInt64(&answered, int64(time.Since(origin)))
		}
	}()
	latencies := make([]int64, 0, rounds)
	for i := 0; i < rounds; i++ {
		spinFor(idleGap)
		sent := int64(time.Since(origin))
		wake <- struct{}{}
		for {
			if at := atomic.LoadInt64(&answered); at != 0 {
				atomic.StoreInt64(&answered, 0)
				latencies = append(latencies, at-sent)
				break
			}
		}
	}
	close(wake)
	sort.Slice(latencies, func(i, j int) bool { return latencies[i] < latencies[j] })
	return sample{time.Duration(latencies[rounds/2] * int64(rounds)), rounds}
}

func channel(rounds, capacity int) sample {
	items := make(chan uint64, capacity)
	start := time.Now()
	go func() {
		for i := 0; i < rounds; i++ {
			items <- uint64(i)
		}
	}()
	for i := 0; i < rounds; i++ {
		sink += <-items
	}
	return sample{time.Since(start), rounds}
}

func channelPingpong(rounds int) sample {
	there, back := make(chan uint64, 1), make(chan uint64, 1)
	start := time.Now()
	go func() {
		for item := range there {
			back <- item
		}
	}()
	for i := 0; i < rounds; i++ {
		there <- uint64(i)
		sink += <-back
	}
	elapsed := time.Since(start)
	close(there)
	return sample{elapsed, 2 * rounds}
}

func mutexPingpong(rounds int) sample {
	var turn int
	var lock sync.Mutex
	changed := sync.NewCond(&lock)
	play := func(ours int) {
		for i := 0; i < rounds; i++ {
			lock.Lock()
			for turn != 2*i+ours {
				changed.Wait()
			}
			turn++
			changed.Signal()
			lock.Unlock()
		}
	}
	var done sync.WaitGroup
	done.Add(1)
	start := time.Now()
	go func() {
		play(1)
		done.Done()
	}()
	play(0)
	done.Wait()
	return sample{time.Since(start), 2 * rounds}
}

func mutexContended(rounds int) sample {
	var count int
	var lock sync.Mutex
	var done sync.WaitGroup
	done.Add(rivals)
	start := time.Now()
	for i := 0; i < rivals; i++ {
		go func() {
			for i := 0; i < rounds; i++ {
				lock.Lock()
				count++
				lock.Unlock()
			}
			done.Done()
		}()
	}
	done.Wait()
	return sample{time.Since(start), rivals * rounds}
}

func tree(leaves, number uint64, result chan<- uint64) {
	if leaves == 1 {
		result <- number
		return
	}
	part := leaves / 10
	results := make(chan uint64, 10)
	for i := uint64(0); i < 10; i++ {
		go tree(part, number+i*part, results)
	}
	sum := uint64(0)
	for i := 0; i < 10; i++ {
		sum += <-results
	}
	result <- sum
}

func skynet(rounds int) sample {
	leaves := uint64(1_000_000)
	if quick {
		leaves = 10_000
	}
	spawns := 0
	for level := leaves; level > 1; level /= 10 {
		spawns += int(level)
	}
	result := make(chan uint64, 1)
	start := time.Now()
	for i := 0; i < rounds; i++ {
		tree(leaves, 0, result)
		if <-result != leaves*(leaves-1)/2 {
			panic("a wrong sum")
		}
	}
	return sample{time.Since(start), rounds * spawns}
}

func fibAlone(n uint64) uint64 {
	if n < 2 {
		return n
	}
	return fibAlone(n-1) + fibAlone(n-2)
}

func forkedFib(n, cut uint64) uint64 {
	if n <= cut {
		return fibAlone(n)
	}
	var left uint64
	var done sync.WaitGroup
	done.Add(1)
	go func() {
		left = forkedFib(n-1, cut)
		done.Done()
	}()
	right := forkedFib(n-2, cut)
	done.Wait()
	return left + right
}

func fibSpawns(n, cut int) int {
	if n <= cut {
		return 0
	}
	return 1 + fibSpawns(n-1, cut) + fibSpawns(n-2, cut)
}

func fib(rounds int) sample {
	start := time.Now()
	for i := 0; i < rounds; i++ {
		sink += forkedFib(fibN, 1)
	}
	return sample{time.Since(start), rounds * fibSpawns(fibN, 1)}
}

func fibCutoff(rounds int) sample {
	start := time.Now()
	for i := 0; i < rounds; i++ {
		sink += forkedFib(fibCutN, cut)
	}
	return sample{time.Since(start), rounds}
}

func chunk(seed uint64) uint64 {
	x := seed | 1
	for i := 0; i < steps; i++ {
		x = x*0x2545F4914F6CDD1D ^ x>>29
	}
	return x
}

func chunks(from, count uint64) uint64 {
	if count == 1 {
		return chunk(from)
	}
	half := count / 2
	var left uint64
	var done sync.WaitGroup
	done.Add(1)
	go func() {
		left = chunks(from, half)
		done.Done()
	}()
	right := chunks(from+half, count-half)
	done.Wait()
	return left ^ right
}

func forkjoin(rounds int) sample {
	start := time.Now()
	for i := 0; i < rounds; i++ {
		sink += chunks(uint64(i), chunkN)
	}
	return sample{time.Since(start), rounds}
}

func timers() int {
	if quick {
		return 10_000
	}
	return 100_000
}

func timerArmCancel(rounds int) sample {
	start := time.Now()
	for i := 0; i < rounds; i++ {
		time.NewTimer(never).Stop()
	}
	return sample{time.Since(start), rounds}
}

func timersCancel(rounds int) sample {
	count := timers()
	wakes := make([]chan struct{}, count)
	start := time.Now()
	for i := 0; i < rounds; i++ {
		var done sync.WaitGroup
		done.Add(count)
		for j := range wakes {
			wake := make(chan struct{}, 1)
			wakes[j] = wake
			go func() {
				timer := time.NewTimer(never)
				select {
				case <-wake:
				case <-timer.C:
				}
				timer.Stop()
				done.Done()
			}()
		}
		for _, wake := range wakes {
			wake <- struct{}{}
		}
		done.Wait()
	}
	return sample{time.Since(start), rounds * count}
}

func timersFire(int) sample {
	count := timers()
	lead := 100*time.Millisecond + 5*time.Microsecond*time.Duration(count)
	deadline := time.Now().Add(lead)
	var done sync.WaitGroup
	done.Add(count)
	for i := 0; i < count; i++ {
		go func() {
			time.Sleep(time.Until(deadline))
			done.Done()
		}()
	}
	done.Wait()
	return sample{time.Since(deadline), count}
}
