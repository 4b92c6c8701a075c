//! The proxy, in front of a server that answers each line with the same line.

use std::{io, net::SocketAddr, time::Duration};

use larder_testing::{FaultProxy, ProxyMode, RedisServer};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    sync::mpsc,
    time::Instant,
};

/// The server's address, and the lines that reach it.
async fn echo() -> (SocketAddr, mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
    let address = listener.local_addr().expect("it is bound");
    let (lines, received) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let lines = lines.clone();
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                let mut line = String::new();
                while stream.read_line(&mut line).await.is_ok_and(|length| length > 0) {
                    drop(lines.send(line.trim_end().to_owned()));
                    drop(stream.get_mut().write_all(line.as_bytes()).await);
                    line.clear();
                }
            });
        }
    });
    (address, received)
}

struct Client(BufReader<TcpStream>);

impl Client {
    async fn connect(proxy: &FaultProxy) -> Self {
        Self(BufReader::new(TcpStream::connect(proxy.address()).await.expect("the proxy accepts")))
    }

    async fn send(&mut self, line: &str) {
        self.0.get_mut().write_all(format!("{line}\n").as_bytes()).await.expect("the connection stands");
    }

    async fn receive(&mut self) -> io::Result<String> {
        let mut line = String::new();
        self.0.read_line(&mut line).await?;
        Ok(line.trim_end().to_owned())
    }

    async fn ask(&mut self, line: &str) -> io::Result<String> {
        self.send(line).await;
        self.receive().await
    }
}

#[tokio::test]
async fn everything_passes_and_is_counted() {
    let server = RedisServer::start();
    let proxy = FaultProxy::start(server.address()).await.unwrap();
    let (mut one, mut two) = (Client::connect(&proxy).await, Client::connect(&proxy).await);
    assert_eq!(one.ask("PING").await.unwrap(), "+PONG");
    assert_eq!(two.ask("*3\r\n$3\r\nset\r\n$1\r\nk\r\n$1\r\nv\r").await.unwrap(), "+OK");
    assert_eq!(two.ask("ping").await.unwrap(), "+PONG");
    assert_eq!((proxy.commands(), proxy.commands_named("Ping"), proxy.commands_named("SET")), (3, 2, 1));
    assert_eq!((proxy.connections(), proxy.open()), (2, 2));
    drop(one);
    proxy.until_open(|open| open == 1).await;
    assert_eq!(proxy.connections(), 2);
}

#[tokio::test]
async fn a_black_hole_accepts_and_holds_everything_until_it_ends() {
    let (server, mut received) = echo().await;
    let proxy = FaultProxy::start(server).await.unwrap();
    let mut old = Client::connect(&proxy).await;
    assert_eq!(old.ask("before").await.unwrap(), "before");
    assert_eq!(received.recv().await.unwrap(), "before");
    proxy.set(ProxyMode::Blackhole).await;
    let mut new = Client::connect(&proxy).await;
    old.send("held").await;
    new.send("held too").await;
    proxy.until_open(|open| open == 2).await;
    assert_eq!(proxy.commands(), 1);
    assert!(received.try_recv().is_err());
    proxy.set(ProxyMode::Pass).await;
    assert_eq!(old.receive().await.unwrap(), "held");
    assert_eq!(new.receive().await.unwrap(), "held too");
    assert_eq!(proxy.commands(), 3);
}

#[tokio::test]
async fn answers_fall_into_a_black_hole_too() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let proxy = FaultProxy::start(listener.local_addr().unwrap()).await.unwrap();
    let mut client = Client::connect(&proxy).await;
    let (mut server, _) = listener.accept().await.unwrap();
    proxy.set(ProxyMode::Blackhole).await;
    server.write_all(b"answer\n").await.unwrap();
    let mut answer = Box::pin(client.receive());
    assert!(tokio::time::timeout(Duration::from_millis(20), &mut answer).await.is_err());
    proxy.set(ProxyMode::Pass).await;
    assert_eq!(answer.await.unwrap(), "answer");
}

#[tokio::test]
async fn a_reset_breaks_old_and_new_connections() {
    let (server, _received) = echo().await;
    let proxy = FaultProxy::start(server).await.unwrap();
    let mut old = Client::connect(&proxy).await;
    old.ask("x").await.unwrap();
    proxy.set(ProxyMode::Reset).await;
    assert_eq!(proxy.open(), 0);
    assert_eq!(old.receive().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    let mut new = Client::connect(&proxy).await;
    assert_eq!(new.receive().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    proxy.set(ProxyMode::Pass).await;
    assert_eq!(Client::connect(&proxy).await.ask("y").await.unwrap(), "y");
}

#[tokio::test]
async fn a_refusing_port_is_kept_and_listens_again() {
    let (server, _received) = echo().await;
    let proxy = FaultProxy::start(server).await.unwrap();
    for round in 0..20 {
        let mut old = Client::connect(&proxy).await;
        old.ask("x").await.unwrap();
        proxy.set(ProxyMode::Refuse).await;
        assert_eq!(old.receive().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
        let refused = TcpStream::connect(proxy.address()).await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused, "round {round}");
        proxy.set(ProxyMode::Pass).await;
        assert_eq!(Client::connect(&proxy).await.ask("y").await.unwrap(), "y");
    }
}

#[tokio::test]
async fn what_is_sent_arrives_late_and_in_order() {
    let (server, _received) = echo().await;
    let proxy = FaultProxy::start(server).await.unwrap();
    let delay = Duration::from_millis(50);
    proxy.set(ProxyMode::Delay(delay)).await;
    let mut client = Client::connect(&proxy).await;
    let started = Instant::now();
    for number in 0..100 {
        client.send(&number.to_string()).await;
        // A piece of its own for each.
        tokio::task::yield_now().await;
    }
    for number in 0..100 {
        assert_eq!(client.receive().await.unwrap(), number.to_string());
    }
    assert!(started.elapsed() >= delay);
}

#[tokio::test]
async fn what_is_answered_arrives_late_and_in_order() {
    let (server, mut received) = echo().await;
    let proxy = FaultProxy::start(server).await.unwrap();
    let delay = Duration::from_millis(50);
    proxy.set(ProxyMode::DelayAnswers(delay)).await;
    let mut client = Client::connect(&proxy).await;
    let started = Instant::now();
    for number in 0..100 {
        client.send(&number.to_string()).await;
        assert_eq!(received.recv().await.unwrap(), number.to_string());
    }
    for number in 0..100 {
        assert_eq!(client.receive().await.unwrap(), number.to_string());
    }
    assert!(started.elapsed() >= delay);
}

#[tokio::test]
async fn a_half_closed_connection_still_carries_requests() {
    let (server, mut received) = echo().await;
    let proxy = FaultProxy::start(server).await.unwrap();
    let mut client = Client::connect(&proxy).await;
    client.ask("one").await.unwrap();
    proxy.set(ProxyMode::HalfClose).await;
    let mut rest = Vec::new();
    assert_eq!(client.0.read_to_end(&mut rest).await.unwrap(), 0);
    client.send("two").await;
    assert_eq!(received.recv().await.unwrap(), "one");
    assert_eq!(received.recv().await.unwrap(), "two");
    assert_eq!(proxy.open(), 1);
}

#[tokio::test]
async fn a_missing_server_breaks_the_connection() {
    let mut server = RedisServer::start();
    server.kill();
    let proxy = FaultProxy::start(server.address()).await.unwrap();
    let mut client = Client::connect(&proxy).await;
    assert_eq!(client.receive().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    server.restart();
    assert_eq!(Client::connect(&proxy).await.ask("PING").await.unwrap(), "+PONG");
}

#[tokio::test]
async fn a_dropped_proxy_closes_its_port_and_its_connections() {
    let (server, _received) = echo().await;
    let proxy = FaultProxy::start(server).await.unwrap();
    let address = proxy.address();
    let mut client = Client::connect(&proxy).await;
    client.ask("x").await.unwrap();
    drop(proxy);
    assert_eq!(client.receive().await.ok().as_deref(), Some(""));
    assert_eq!(TcpStream::connect(address).await.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn a_truncated_answer_ends_in_its_middle() {
    let (server, _lines) = echo().await;
    let proxy = FaultProxy::start(server).await.unwrap();
    let mut client = Client::connect(&proxy).await;
    assert_eq!(client.ask("whole").await.unwrap(), "whole");
    proxy.set(ProxyMode::Truncate(3)).await;
    client.send("broken").await;
    let mut received = String::new();
    client.0.read_to_string(&mut received).await.unwrap();
    assert_eq!(received, "bro");
    proxy.set(ProxyMode::Pass).await;
    assert_eq!(Client::connect(&proxy).await.ask("again").await.unwrap(), "again");
}

#[tokio::test]
async fn garbage_stands_before_an_answer() {
    let (server, _lines) = echo().await;
    let proxy = FaultProxy::start(server).await.unwrap();
    let mut client = Client::connect(&proxy).await;
    proxy.set(ProxyMode::Garbage).await;
    assert_eq!(client.ask("answer").await.unwrap(), "\0garbage");
    assert_eq!(client.receive().await.unwrap(), "answer");
    proxy.set(ProxyMode::Pass).await;
    assert_eq!(client.ask("clean").await.unwrap(), "clean");
}

#[tokio::test]
async fn every_third_connection_is_reset_and_the_others_pass() {
    let (server, _received) = echo().await;
    let proxy = FaultProxy::start(server).await.unwrap();
    let mut before = Client::connect(&proxy).await;
    assert_eq!(before.ask("x").await.unwrap(), "x");
    proxy.set(ProxyMode::ResetEvery(3)).await;
    assert_eq!(before.ask("stands").await.unwrap(), "stands");
    for round in 1..=9 {
        let mut client = Client::connect(&proxy).await;
        // Its own words may be lost with the connection, so it only listens.
        if round % 3 == 0 {
            assert_eq!(client.receive().await.unwrap_err().kind(), io::ErrorKind::ConnectionReset, "round {round}");
        } else {
            assert_eq!(client.ask("passes").await.unwrap(), "passes", "round {round}");
        }
    }
    assert_eq!(proxy.connections(), 10);
}

#[tokio::test]
async fn what_a_client_sent_before_it_went_away_still_arrives() {
    let server = RedisServer::start();
    let proxy = FaultProxy::start(server.address()).await.unwrap();
    let mut client = Client::connect(&proxy).await;
    assert_eq!(client.ask("PING").await.unwrap(), "+PONG");
    proxy.set(ProxyMode::Delay(Duration::from_millis(100))).await;
    for key in 0..50 {
        client.send(&format!("SET k{key} v")).await;
        tokio::task::yield_now().await;
    }
    // Nothing has been answered, and the answers will find nobody.
    drop(client);
    proxy.until_open(|open| open == 0).await;
    assert_eq!(server.command(&["DBSIZE"]), "50");
}

#[tokio::test]
async fn one_command_is_late_while_other_connections_pass() {
    let server = RedisServer::start();
    let proxy = FaultProxy::start(server.address()).await.unwrap();
    let (mut slow, mut quick) = (Client::connect(&proxy).await, Client::connect(&proxy).await);
    let delay = Duration::from_millis(200);
    proxy.delay_next("unlink", delay);
    assert_eq!(slow.ask("PING").await.unwrap(), "+PONG");
    assert!(proxy.is_waiting_to_delay());
    let started = Instant::now();
    slow.send("UNLINK k").await;
    let mut answer = Box::pin(slow.receive());
    assert_eq!(quick.ask("GET k").await.unwrap(), "$-1");
    assert!(futures_util::poll!(&mut answer).is_pending());
    assert_eq!(answer.await.unwrap(), ":0");
    assert!(started.elapsed() >= delay);
    assert!(!proxy.is_waiting_to_delay());
    assert_eq!(quick.ask("UNLINK k").await.unwrap(), ":0");
    assert_eq!(proxy.commands_named("UNLINK"), 2);
}
