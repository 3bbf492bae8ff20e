//! Sockets under stackless futures: in a fiber, and on a plain thread without any runtime.

mod net_support;

use net_support::on_workers;
use roving_runtime::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use roving_runtime::{Fiber, Signals, current_fiber, park};
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::net::Ipv4Addr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};

/// Wakes a fiber, or a thread.
enum Sleeper {
    Fiber(Fiber),
    Thread(std::thread::Thread),
}

impl Wake for Sleeper {
    fn wake(self: Arc<Self>) {
        match &*self {
            Sleeper::Fiber(fiber) => fiber.unpark(),
            Sleeper::Thread(thread) => thread.unpark(),
        }
    }
}

/// The least that runs a future.
fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let fiber = current_fiber();
    let is_fiber = fiber.is_some();
    let sleeper = fiber.map_or_else(|| Sleeper::Thread(std::thread::current()), Sleeper::Fiber);
    let waker = Waker::from(Arc::new(sleeper));
    loop {
        match future.as_mut().poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending if is_fiber => park().expect("nobody cancels it"),
            Poll::Pending => std::thread::park(),
        }
    }
}

async fn read(stream: &TcpStream, buf: &mut [u8]) -> io::Result<usize> {
    poll_fn(|cx| stream.poll_read(cx, buf)).await
}

async fn write_all(stream: &TcpStream, mut data: &[u8]) -> io::Result<()> {
    while !data.is_empty() {
        let count = poll_fn(|cx| stream.poll_write(cx, data)).await?;
        data = &data[count..];
    }
    Ok(())
}

async fn connect(addr: std::net::SocketAddr) -> io::Result<TcpStream> {
    let stream = TcpStream::start_connecting(addr)?;
    poll_fn(|cx| stream.poll_connected(cx)).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn serve(listener: TcpListener) -> io::Result<usize> {
    let (stream, _) = poll_fn(|cx| listener.poll_accept(cx)).await?;
    stream.set_nodelay(true)?;
    let (mut buf, mut total) = ([0; 5000], 0);
    loop {
        let count = read(&stream, &mut buf).await?;
        if count == 0 {
            return Ok(total);
        }
        total += count;
        write_all(&stream, &buf[..count]).await?;
    }
}

async fn talk(addr: std::net::SocketAddr) -> io::Result<usize> {
    let stream = connect(addr).await?;
    let message = [7; 20_000];
    let mut total = 0;
    for _ in 0..20 {
        write_all(&stream, &message).await?;
        let mut back = 0;
        while back < message.len() {
            back += read(&stream, &mut [0; 3000]).await?;
        }
        total += back;
    }
    Ok(total)
}

#[test]
fn futures_echo_in_fibers_and_on_threads() {
    on_workers(|runtime| {
        for server_in_fiber in [true, false] {
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
            let addr = listener.local_addr().unwrap();
            let serve = || block_on(serve(listener)).unwrap();
            let talk = move || block_on(talk(addr)).unwrap();
            let (served, talked) = if server_in_fiber {
                let (fiber, thread) = (runtime.spawn(serve), std::thread::spawn(talk));
                (fiber.join().unwrap(), thread.join().unwrap())
            } else {
                let (fiber, thread) = (runtime.spawn(talk), std::thread::spawn(serve));
                (thread.join().unwrap(), fiber.join().unwrap())
            };
            assert_eq!(served, talked);
            assert_eq!(served, 400_000);
        }
    });
}

#[test]
fn a_connection_refused_is_an_error_for_futures_too() {
    let _watchdog = net_support::Watchdog::new();
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    assert_eq!(
        block_on(connect(addr)).unwrap_err().kind(),
        ErrorKind::ConnectionRefused
    );
}

/// Counts its wakes.
#[derive(Default)]
struct Counter(AtomicUsize);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::AcqRel);
    }
}

impl Counter {
    fn wait_for(&self, count: usize) {
        while self.0.load(Ordering::Acquire) != count {
            std::thread::yield_now();
        }
    }
}

#[test]
fn the_last_waker_of_a_direction_is_woken() {
    let _watchdog = net_support::Watchdog::new();
    let (one, other) = UnixStream::pair().unwrap();
    let [first, second, third] = [(); 3].map(|()| Arc::new(Counter::default()));
    let poll = |counter: &Arc<Counter>| {
        let waker = Waker::from(counter.clone());
        one.poll_read(&mut Context::from_waker(&waker), &mut [0; 9])
    };
    assert!(poll(&first).is_pending());
    assert!(poll(&second).is_pending());
    assert_eq!(other.write(b"x").unwrap(), 1);
    second.wait_for(1);
    assert_eq!(first.0.load(Ordering::Acquire), 0);
    assert!(matches!(poll(&third), Poll::Ready(Ok(1))));
    // A close wakes it as well.
    assert!(poll(&third).is_pending());
    one.close();
    third.wait_for(1);
    let Poll::Ready(Err(error)) = poll(&third) else {
        panic!("it is closed")
    };
    assert_eq!(error.raw_os_error(), Some(libc::EBADF));
    // The other direction had no part in it.
    assert_eq!(second.0.load(Ordering::Acquire), 1);
}

#[test]
fn a_future_that_has_gone_is_not_missed() {
    let _watchdog = net_support::Watchdog::new();
    let (one, other) = UnixStream::pair().unwrap();
    let counter = Arc::new(Counter::default());
    {
        let waker = Waker::from(counter.clone());
        let mut cx = Context::from_waker(&waker);
        assert!(one.poll_read_ready(&mut cx).is_pending() || one.poll_read(&mut cx, &mut [0]).is_pending());
    }
    drop(one);
    assert_eq!(other.read(&mut [0; 9]).unwrap(), 0);
}

#[test]
fn others_may_be_polled() {
    let _watchdog = net_support::Watchdog::new();
    let path = std::env::temp_dir().join(format!("roving-poll-{}", std::process::id()));
    let listener = UnixListener::bind(&path).unwrap();
    let client = std::thread::spawn({
        let path = path.clone();
        move || UnixStream::connect(path).unwrap()
    });
    let (server, _) = block_on(poll_fn(|cx| listener.poll_accept(cx))).unwrap();
    std::fs::remove_file(path).unwrap();
    let client = client.join().unwrap();
    let message = [std::io::IoSlice::new(b"ab"), std::io::IoSlice::new(b"c")];
    assert_eq!(
        block_on(poll_fn(|cx| client.poll_write_vectored(cx, &message))).unwrap(),
        3
    );
    block_on(poll_fn(|cx| server.poll_read_ready(cx))).unwrap();
    assert_eq!(
        block_on(poll_fn(|cx| server.poll_read(cx, &mut [0; 9]))).unwrap(),
        3
    );
    block_on(poll_fn(|cx| client.poll_write_ready(cx))).unwrap();
    let signals = Signals::new(&[Signals::HANGUP]).unwrap();
    // SAFETY: takes no pointers.
    assert_eq!(unsafe { libc::kill(std::process::id() as i32, libc::SIGHUP) }, 0);
    assert_eq!(
        block_on(poll_fn(|cx| signals.poll_wait(cx))).unwrap(),
        Signals::HANGUP
    );
}
