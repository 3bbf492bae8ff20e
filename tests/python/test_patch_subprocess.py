"""Processes, pipes and waits for signals under patch, in child processes: the patch is the process's."""

import child

# As far in as the programs below. `beside` calls in a fiber and counts how often another of the one worker
# gets to run: hardly ever if the call holds up the worker. A busy machine may do that too, but not each time.
PATCH = """
        import os, signal, subprocess
        import roving.patch
        roving.configure(max_spares=0)
        roving.patch.all()
        def counted(call, args, kwargs):
            turns, done = 0, False
            def count():
                nonlocal turns
                while not done:
                    turns += 1
                    time.sleep(0.002)
            # Started first, and there are no spare workers: so it is the same worker's.
            counter = roving.spawn(count)
            while not turns:
                time.sleep(0.001)
            before = turns
            result = roving.spawn(call, *args, **kwargs).join()
            meanwhile, done = turns - before, True
            counter.join()
            return meanwhile, result
        def beside(call, *args, **kwargs):
            for attempt in range(6):
                turns, result = counted(call, args, kwargs)
                if turns >= 10:
                    return result
            raise SystemExit(f"{call} holds up its worker: {turns} turns")
"""


def test_waits_for_processes_park() -> None:
    """Every way there is, with the results of CPython; other fibers of the worker run meanwhile."""
    child.check(
        PATCH
        + """
        slow = "sleep 0.15; exit 3"
        def start():
            return os.posix_spawn("/bin/sh", ["sh", "-c", slow], os.environ)
        def of_one(wait, *args):
            pid = start()
            found = wait(pid, *args)
            assert found[0] == pid and found[1] == 3 << 8, found
            return found
        beside(of_one, os.waitpid, 0)
        assert len(beside(of_one, os.wait4, 0)) == 3
        assert beside(of_one, lambda pid: os.wait4(pid=pid, options=0))[2].ru_maxrss > 0
        beside(of_one, lambda pid: os.waitpid(-1, 0))
        beside(of_one, lambda pid: os.waitpid(0, 0))
        beside(of_one, lambda pid: os.wait())
        beside(of_one, lambda pid: os.wait3(0))
        beside(of_one, lambda pid: os.waitpid(pid, os.WUNTRACED))
        def of_group():
            pid = os.posix_spawn("/bin/sh", ["sh", "-c", slow], os.environ, setpgroup=0)
            assert os.waitpid(-pid, 0) == (pid, 3 << 8)
        beside(of_group)
        def by_id(kind):
            pid = start()
            number = {os.P_PID: pid, os.P_ALL: 0, os.P_PIDFD: os.pidfd_open(pid)}[kind]
            looked = os.waitid(kind, number, os.WEXITED | os.WNOWAIT)
            found = os.waitid(kind, number, os.WEXITED)
            assert found.si_pid == pid == looked.si_pid and found.si_status == 3, found
        for kind in (os.P_PID, os.P_ALL, os.P_PIDFD):
            beside(by_id, kind)
        def stops():
            pid = os.posix_spawn("/bin/sh", ["sh", "-c", "sleep 0.1; kill -STOP $$; exit 5"], os.environ)
            found = os.waitpid(pid, os.WUNTRACED)
            assert found[0] == pid and os.WIFSTOPPED(found[1]), found
            os.kill(pid, signal.SIGCONT)
            assert os.waitpid(pid, 0) == (pid, 5 << 8)
        beside(stops)
        assert beside(os.system, slow) == 3 << 8
        assert beside(os.system, command=slow) == 3 << 8
        print("ok")
        """,
        workers=1,
    )


def test_errors_of_waits() -> None:
    """In a fiber as on a thread."""
    child.check(
        PATCH
        + """
        calls = [
            (os.waitpid, -1, 0), (os.waitpid, os.getpid(), 0), (os.waitpid, 1 << 22, 0),
            (os.waitpid, "x", 0), (os.waitpid, 1), (os.waitpid, 1 << 40, 0),
            (os.wait,), (os.wait3, 0), (os.wait3,), (os.wait4, -1, 0),
            (os.waitid, os.P_ALL, 0, os.WEXITED), (os.waitid, os.P_PID, 1, os.WEXITED),
            (os.waitid, os.P_PIDFD, 0, os.WEXITED), (os.waitid, 99, 0, os.WEXITED),
            (os.waitpid, -1, os.WNOHANG), (os.system,), (os.system, "a\\0b"),
        ]
        def outcomes():
            found = []
            for call, *args in calls:
                try:
                    found.append(call(*args))
                except Exception as error:
                    found.append((type(error), getattr(error, "errno", None)))
            return found
        on_thread, in_fiber = outcomes(), roving.spawn(outcomes).join()
        assert in_fiber == on_thread, list(zip(calls, on_thread, in_fiber))
        assert all(isinstance(found, tuple) for found in in_fiber)
        print("ok")
        """
    )


def test_without_pidfds() -> None:
    """Where the kernel, a sandbox or a full table gives none: by the pool."""
    child.check(
        PATCH
        + """
        def refuse(*_):
            raise OSError(24, "Too many open files")
        os.pidfd_open = refuse
        def wait():
            pid = os.posix_spawn("/bin/sh", ["sh", "-c", "sleep 0.15; exit 3"], os.environ)
            return os.waitpid(pid, 0)[1]
        assert beside(wait) == 3 << 8
        assert beside(lambda: subprocess.Popen(["sleep", "0.15"]).wait(timeout=20)) == 0
        print("ok")
        """,
        workers=1,
    )


def test_popen() -> None:
    """run, call, check_output, communicate, wait with a timeout, poll, popen: the worker is never held up."""
    child.check(
        PATCH
        + """
        script = "sleep 0.1; cat; echo error >&2; exit 4"
        done = beside(subprocess.run, ["sh", "-c", script], input=b"x" * 300_000, capture_output=True)
        assert (done.returncode, len(done.stdout), done.stderr) == (4, 300_000, b"error\\n"), done.returncode
        assert beside(subprocess.check_output, "sleep 0.1; echo out", shell=True, text=True) == "out\\n"
        assert beside(subprocess.call, ["sh", "-c", "sleep 0.1; exit 5"]) == 5
        try:
            beside(subprocess.check_call, ["sh", "-c", "sleep 0.1; exit 6"])
            raise SystemExit("no error")
        except subprocess.CalledProcessError as error:
            assert error.returncode == 6
        def times_out(wait):
            process = subprocess.Popen(["sleep", "60"], stdout=subprocess.PIPE)
            begun = time.monotonic()
            try:
                wait(process)
                raise SystemExit("no timeout")
            except subprocess.TimeoutExpired as error:
                assert error.timeout == 0.1 and error.cmd == ["sleep", "60"], error
            assert 0.09 < time.monotonic() - begun < 5
            assert process.poll() is None
            process.terminate()
            assert process.wait(20) == -signal.SIGTERM == process.poll() == process.wait()
            process.stdout.close()
        beside(times_out, lambda process: process.wait(0.1))
        beside(times_out, lambda process: process.communicate(timeout=0.1))
        def reads():
            with os.popen("sleep 0.1; echo read; exit 7") as pipe:
                assert pipe.read() == "read\\n"
                status = pipe.close()
            assert os.waitstatus_to_exitcode(status) == 7
        beside(reads)
        def converses():
            pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
            process = subprocess.Popen(["cat"], text=True, bufsize=1, **pipes)
            for n in range(20):
                time.sleep(0.005)
                process.stdin.write(f"{n}\\n")
                assert process.stdout.readline() == f"{n}\\n"
            process.stdin.close()
            assert process.stdout.read() == "" and process.wait() == 0
            process.stdout.close()
        beside(converses)
        try:
            roving.spawn(subprocess.run, ["/nonexistent"]).join()
            raise SystemExit("no error")
        except FileNotFoundError as error:
            assert error.filename == "/nonexistent"
        print("ok")
        """,
        workers=1,
    )


def test_many_processes_at_once() -> None:
    """Fibers and threads, each with its own; one process that many wait for."""
    child.check(
        PATCH
        + """
        codes = []
        def one(n):
            codes.append((n, subprocess.run(["sh", "-c", f"sleep 0.05; exit {n}"]).returncode))
        kinds = [threading.Thread, roving.patch.NativeThread]
        threads = [kinds[n % 2](target=one, args=(n,)) for n in range(30)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
        assert sorted(codes) == [(n, n) for n in range(30)], codes
        shared, waited = subprocess.Popen(["sh", "-c", "sleep 0.1; exit 9"]), []
        def wait(n):
            waited.append(shared.wait(None if n % 3 else 30))
        threads = [kinds[n % 2](target=wait, args=(n,)) for n in range(12)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
        assert waited == [9] * 12, waited
        print("ok")
        """
    )


def test_preexec_and_fork_in_a_fiber() -> None:
    """preexec_fn runs in the child of a fork in a fiber; also if a neighbour holds the import lock."""
    child.check(
        PATCH
        + """
        import _imp
        def child():
            os.setsid()
            lock = threading.Lock()
            with lock:
                import this_is_not_there
        def fails():
            try:
                subprocess.run(["true"], preexec_fn=child)
            except subprocess.SubprocessError as error:
                return str(error)
        message = roving.spawn(fails).join()
        assert "preexec_fn" in message, message
        def works():
            return subprocess.run(["sh", "-c", "exit $(ulimit -c)"], preexec_fn=lambda: limit(0)).returncode
        import resource
        def limit(n):
            resource.setrlimit(resource.RLIMIT_CORE, (n, n))
        assert roving.spawn(works).join() == 0
        held, go = threading.Event(), threading.Event()
        def holds():
            _imp.acquire_lock()
            held.set()
            go.wait()
            _imp.release_lock()
        holder = roving.spawn(holds)
        held.wait()
        forker = roving.spawn(works)
        assert not forker.wait(0.05)
        roving.spawn(go.set)
        assert forker.join(20) == 0
        holder.join()
        print("ok")
        """,
        workers=1,
        options=("-W", "ignore::DeprecationWarning"),
    )


def test_cancelled_waits() -> None:
    """Leave the process to others, and its status where it is."""
    child.check(
        PATCH
        + """
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        process = subprocess.Popen(["sh", "-c", "read line; exit 8"], **pipes)
        waits = [process.wait, lambda: process.wait(30), lambda: os.waitpid(process.pid, 0)]
        waits += [process.stdout.read, lambda: os.waitpid(-1, 0)]
        for wait in waits:
            fiber = roving.spawn(wait)
            assert not fiber.wait(0.02)
            fiber.cancel()
            assert fiber.wait(10) and fiber.cancelled(), wait
        assert process.poll() is None
        process.stdin.write(b"line\\n")
        process.stdin.close()
        assert roving.spawn(process.wait).join() == 8
        process.stdout.close()
        print("ok")
        """
    )


def test_files_over_pipes() -> None:
    """Raw and buffered, text too; big writes; ends; modes; a close under a reader."""
    child.check(
        PATCH
        + """
        def pair(**kwargs):
            r, w = os.pipe()
            return open(r, "rb", **kwargs), open(w, "wb", **kwargs)
        big = bytes(range(256)) * 4096
        for buffering in (0, -1):
            reader, writer = pair(buffering=buffering)
            def write():
                assert writer.write(big) == len(big)
                writer.close()
            fibers = [roving.spawn(reader.read), roving.spawn(write)]
            assert fibers[0].join() == big and fibers[1].join() is None
            assert roving.spawn(reader.read).join() == b""
            reader.close()
        reader, writer = pair(buffering=0)
        def pieces():
            found, into = [], bytearray(4)
            found.append(reader.read(3))
            found.append((reader.readinto(into), bytes(into)))
            found.append(reader.readall())
            return found
        fiber = roving.spawn(pieces)
        for piece in (b"abc", b"defg", b"hi", b"j"):
            assert not fiber.wait(0.01)
            roving.spawn(writer.write, piece).join()
        writer.close()
        assert fiber.join() == [b"abc", (4, b"defg"), b"hij"]
        def wrong(call, *args):
            try:
                call(*args)
            except Exception as error:
                return type(error).__name__
        reader.close()
        assert roving.spawn(wrong, reader.read).join() == "ValueError"
        reader, writer = pair(buffering=0)
        assert roving.spawn(wrong, reader.write, b"x").join() == "UnsupportedOperation"
        assert roving.spawn(wrong, writer.read).join() == "UnsupportedOperation"
        assert roving.spawn(wrong, writer.write, "text").join() == "TypeError"
        os.set_blocking(reader.fileno(), False)
        assert roving.spawn(reader.read).join() is None and roving.spawn(reader.read, 5).join() is None
        os.set_blocking(reader.fileno(), True)
        waiting = roving.spawn(wrong, reader.read, 1)
        assert not waiting.wait(0.02)
        reader.close()
        assert waiting.join(10) in ("OSError", "ValueError"), waiting.join()
        fiber = roving.spawn(wrong, writer.write, big)
        assert fiber.join() == "BrokenPipeError"
        # Regular files are as ever.
        import tempfile
        def regular():
            with tempfile.TemporaryFile() as file:
                file.write(big)
                file.seek(0)
                return file.read() == big
        assert roving.spawn(regular).join()
        print("ok")
        """,
        workers=1,
    )


def test_a_buffered_pipe_shared_by_fibers_and_threads() -> None:
    """A line each, whoever comes: the guard of the buffer parks, and blocks nobody's worker."""
    child.check(
        PATCH
        + """
        r, w = os.pipe()
        reader, writer = open(r, "rb"), open(w, "wb")
        lines = []
        def read():
            while line := reader.readline():
                lines.append(line)
        def write(n):
            for i in range(300):
                writer.write(b"%d %d\\n" % (n, i))
                writer.flush()
        kinds = [threading.Thread, roving.patch.NativeThread]
        readers = [kinds[n % 2](target=read) for n in range(4)]
        writers = [kinds[n % 2](target=write, args=(n,)) for n in range(4)]
        for thread in readers + writers:
            thread.start()
        for thread in writers:
            thread.join(60)
            assert not thread.is_alive()
        writer.close()
        for thread in readers:
            thread.join(60)
            assert not thread.is_alive()
        assert sorted(lines) == sorted(b"%d %d\\n" % (n, i) for n in range(4) for i in range(300)), len(lines)
        print("ok")
        """
    )


def test_waits_for_signals() -> None:
    """sigwait and its like, on threads of the pool, while others run."""
    child.check(
        """
        import os, signal
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
        """
        + PATCH
        + """
        def later():
            time.sleep(0.1)
            os.kill(os.getpid(), signal.SIGUSR1)
        def waits(call, *args):
            roving.spawn(later)
            return call({signal.SIGUSR1}, *args)
        assert beside(waits, signal.sigwait) == signal.SIGUSR1
        assert beside(waits, signal.sigwaitinfo).si_signo == signal.SIGUSR1
        assert beside(waits, signal.sigtimedwait, 20).si_signo == signal.SIGUSR1
        assert beside(signal.sigtimedwait, {signal.SIGUSR1}, 0.1) is None
        def wrong(call, *args):
            try:
                call(*args)
            except Exception as error:
                return type(error)
        bad = [(signal.sigwait, (1,)), (signal.sigtimedwait, ({1}, -1)), (signal.sigwait, ({999},))]
        for call, args in bad:
            assert roving.spawn(wrong, call, *args).join() is wrong(call, *args) is not None
        print("ok")
        """,
        workers=1,
    )


def test_undone() -> None:
    """The functions are what they were."""
    child.check(
        PATCH
        + """
        assert "subprocess.Popen._wait" in roving.patch.report()["subprocess"]
        assert "posix.waitpid" in roving.patch.report()["subprocess"]
        roving.patch.undo()
        report = roving.patch.report()
        assert not any(report.values()), report
        assert subprocess.Popen._wait.__module__ == "subprocess"
        assert roving.spawn(subprocess.call, ["sh", "-c", "exit 3"]).join() == 3
        roving.patch.all()
        roving.patch.all()
        assert beside(subprocess.call, ["sh", "-c", "sleep 0.1; exit 3"]) == 3
        roving.patch.undo()
        assert subprocess.Popen._wait.__module__ == "subprocess"
        print("ok")
        """,
        workers=1,
    )
