//! A real `redis-server` for one test.

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    io,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{redis_command::Connection, tls::TlsFiles, watchdog::Watchdog};

/// How long the server may take until it answers.
const START_DEADLINE: Duration = Duration::from_secs(10);

/// How often the server is asked whether it is there yet.
const START_POLL: Duration = Duration::from_millis(2);

/// How many free ports are tried: between finding one and using it another process may take it.
const PORT_ATTEMPTS: u32 = 20;

/// The environment variables that name the program, in their order.
const PROGRAM_VARIABLES: [&str; 2] = ["LARDER_REDIS_SERVER", "REDIS_SERVER_BIN"];

/// Settings of a [`RedisServer`].
#[derive(Debug, Clone, Default)]
#[must_use = "call `start` to get the server"]
pub struct RedisServerBuilder {
    program: Option<OsString>,
    arguments: Vec<String>,
    password: Option<String>,
    unix_socket: bool,
    acl: Option<String>,
    cluster: bool,
    sentinel: Option<String>,
    tls: Option<TlsFiles>,
}

impl RedisServerBuilder {
    /// The program to run, whatever the environment says.
    pub fn program(mut self, program: impl Into<OsString>) -> Self {
        self.program = Some(program.into());
        self
    }

    /// Any option of `redis.conf`: `option("maxmemory-policy", "allkeys-lru")`.
    #[expect(clippy::needless_pass_by_value, reason = "numbers and texts are given as they are")]
    pub fn option(mut self, name: &str, value: impl ToString) -> Self {
        self.arguments.extend([format!("--{name}"), value.to_string()]);
        self
    }

    /// Arguments as on the command line, for options of several words:
    /// `arguments(&["--client-output-buffer-limit", "pubsub", "1mb", "0", "0"])`.
    pub fn arguments(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(ToString::to_string));
        self
    }

    /// The memory limit in bytes. Redis's own policy at the limit is to refuse writes.
    pub fn max_memory_bytes(self, bytes: u64) -> Self {
        self.option("maxmemory", bytes)
    }

    /// How many databases there are; Redis's own number is 16.
    pub fn databases(self, databases: u32) -> Self {
        self.option("databases", databases)
    }

    /// Demands a password of the default user; [`RedisServer::command`] and [`RedisServer::url`] give it.
    pub fn password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self.option("requirepass", password)
    }

    /// Listens on a unix socket too; see [`RedisServer::unix_socket`].
    pub fn unix_socket(mut self) -> Self {
        self.unix_socket = true;
        self
    }

    /// The lines of an ACL file, such as `user reader on >secret ~* +get`. [`RedisServer::command`] speaks as the
    /// default user, which stays as Redis has it unless a line says otherwise. Redis does not allow this together with
    /// a [`password`](Self::password).
    pub fn acl(mut self, lines: &str) -> Self {
        self.acl = Some(format!("{lines}\n"));
        self
    }

    /// Listens with TLS too, see [`RedisServer::tls_port`], and speaks it to other servers. Clients need no certificate
    /// unless an option `tls-auth-clients` says so.
    pub fn tls(mut self, files: TlsFiles) -> Self {
        self.tls = Some(files);
        self.arguments.splice(..0, ["--tls-auth-clients", "no", "--tls-replication", "yes"].map(str::to_owned));
        self
    }

    /// A node of a cluster, with a free port for the cluster's bus.
    pub(crate) fn cluster(mut self) -> Self {
        self.cluster = true;
        self.option("cluster-enabled", "yes")
    }

    /// A sentinel, with the lines of its first configuration file, which it rewrites itself.
    pub(crate) fn sentinel(mut self, lines: String) -> Self {
        self.sentinel = Some(lines);
        self
    }

    /// Starts the server and waits until it answers.
    ///
    /// # Panics
    /// If the program is missing or does not come up; the message says what to do, with the server's log.
    #[must_use]
    pub fn start(self) -> RedisServer {
        self.try_start().unwrap_or_else(|error| panic!("{error}"))
    }

    /// Starts the server and waits until it answers.
    ///
    /// # Errors
    /// If the program is missing or does not answer within ten seconds, with the server's log.
    pub fn try_start(self) -> io::Result<RedisServer> {
        let directory = ServerDirectory::create()?;
        if let Some(lines) = &self.acl {
            fs::write(directory.path().join("users.acl"), lines)?;
        }
        if let Some(lines) = &self.sentinel {
            fs::write(directory.path().join("sentinel.conf"), lines)?;
        }
        let mut server = RedisServer {
            child: None,
            watchdog: None,
            port: 0,
            bus_port: 0,
            tls_port: 0,
            paused: AtomicBool::new(false),
            directory,
            settings: self,
        };
        for _ in 0..PORT_ATTEMPTS {
            [server.port, server.bus_port, server.tls_port] = free_ports()?;
            match server.launch() {
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(error),
                Ok(()) => return Ok(server),
            }
        }
        Err(io::Error::new(io::ErrorKind::AddrInUse, format!("{PORT_ATTEMPTS} free ports were taken by others")))
    }
}

/// A `redis-server` on a free port of 127.0.0.1, without persistence, in a directory of its own.
///
/// The program is the one that `LARDER_REDIS_SERVER` or `REDIS_SERVER_BIN` names, else `redis-server` from the `PATH`.
/// Dropping the value kills the process and removes its directory; if this process is killed, a watching shell does it.
#[derive(Debug)]
pub struct RedisServer {
    child: Option<Child>,
    watchdog: Option<Watchdog>,
    port: u16,
    bus_port: u16,
    tls_port: u16,
    paused: AtomicBool,
    directory: ServerDirectory,
    settings: RedisServerBuilder,
}

impl RedisServer {
    /// Starts a server with default settings.
    ///
    /// # Panics
    /// If the program is missing or does not come up; the message says what to do, with the server's log.
    #[must_use]
    pub fn start() -> Self {
        Self::builder().start()
    }

    /// Starts a server with arguments of the command line, behind those that make it a test's own.
    ///
    /// # Panics
    /// If the program is missing or does not come up; the message says what to do, with the server's log.
    #[must_use]
    pub fn with_args(arguments: &[&str]) -> Self {
        Self::builder().arguments(arguments).start()
    }

    /// A server with other settings.
    pub fn builder() -> RedisServerBuilder {
        RedisServerBuilder::default()
    }

    /// The port, which stays the same over a [`restart`](Self::restart).
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The address.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    /// `redis://127.0.0.1:port`, with the password if there is one.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_at(self.port)
    }

    /// The same URL with another port, such as that of a proxy before this server.
    #[must_use]
    pub fn url_at(&self, port: u16) -> String {
        match &self.settings.password {
            None => format!("redis://127.0.0.1:{port}"),
            Some(password) => format!("redis://:{}@127.0.0.1:{port}", percent_encoded(password)),
        }
    }

    /// The port for TLS, if [`RedisServerBuilder::tls`] asked for one.
    #[must_use]
    pub fn tls_port(&self) -> Option<u16> {
        self.settings.tls.is_some().then_some(self.tls_port)
    }

    /// The port by which other servers, and clients that mean to use TLS, know it.
    pub(crate) fn known_port(&self) -> u16 {
        self.tls_port().unwrap_or(self.port)
    }

    /// The path of the unix socket, if [`RedisServerBuilder::unix_socket`] asked for one.
    #[must_use]
    pub fn unix_socket(&self) -> Option<PathBuf> {
        self.settings.unix_socket.then(|| self.directory.socket())
    }

    /// The id of the process, while there is one.
    #[must_use]
    pub fn process_id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    /// What the server has written since it was last started.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.log()).unwrap_or_else(|error| format!("(no log: {error})"))
    }

    /// The port of the cluster's bus, for nodes of a cluster.
    pub(crate) fn bus_port(&self) -> u16 {
        self.bus_port
    }

    /// Whether it was neither killed nor paused.
    pub(crate) fn is_running(&self) -> bool {
        self.child.is_some() && !self.paused.load(Ordering::Relaxed)
    }

    /// Runs a command on a connection of its own and answers its reply as text: numbers in digits, nothing as `(nil)`,
    /// an array with one element a line. Blocks the thread for the time of the answer.
    ///
    /// # Panics
    /// If the server cannot be reached, gives no answer within ten seconds, or answers with an error.
    pub fn command(&self, arguments: &[&str]) -> String {
        self.try_command(arguments).unwrap_or_else(|error| panic!("{arguments:?}: {error}"))
    }

    /// As [`command`](Self::command).
    ///
    /// # Errors
    /// If the server cannot be reached, gives no answer within ten seconds, or answers with an error.
    pub fn try_command(&self, arguments: &[&str]) -> io::Result<String> {
        let mut connection = Connection::open(self.address())?;
        if let Some(password) = &self.settings.password {
            connection.run(&["AUTH", password])?;
        }
        connection.run(arguments)
    }

    /// Kills the process at once, as a crash does: connections break, data is gone. Does nothing if it is dead.
    ///
    /// # Panics
    /// If the process cannot be signalled.
    pub fn kill(&mut self) {
        // First, while the process has its id: a later process may get the same.
        drop(self.watchdog.take());
        if let Some(mut child) = self.child.take() {
            child.kill().expect("a child of this process that was not waited for can be killed");
            child.wait().expect("a killed child can be waited for");
            self.paused.store(false, Ordering::Relaxed);
        }
    }

    /// Stops the process from running: connections stay, and nothing is answered until [`resume`](Self::resume).
    ///
    /// # Panics
    /// If the process is dead.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
        self.paused.store(true, Ordering::Relaxed);
    }

    /// Lets a paused process run again.
    ///
    /// # Panics
    /// If the process is dead.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
        self.paused.store(false, Ordering::Relaxed);
    }

    /// Kills the process, if it lives, and starts an empty one on the same port.
    ///
    /// # Panics
    /// If it does not come up again.
    pub fn restart(&mut self) {
        self.kill();
        self.launch().unwrap_or_else(|error| panic!("restart: {error}"));
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("the server was killed; `restart` it first");
        kill_process(Pid::from_child(child), signal).expect("a child of this process can be signalled");
    }

    fn launch(&mut self) -> io::Result<()> {
        let log = File::create(self.directory.log())?;
        let program = self.settings.program.clone().unwrap_or_else(program);
        let mut command = Command::new(&program);
        if self.settings.sentinel.is_some() {
            command.arg(self.directory.path().join("sentinel.conf")).arg("--sentinel");
        }
        if self.settings.cluster {
            command.args(["--cluster-port", &self.bus_port.to_string()]);
        }
        command
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--daemonize", "no"])
            .args(["--save", "", "--appendonly", "no", "--dir"])
            .arg(self.directory.path())
            .args(&self.settings.arguments);
        if self.settings.unix_socket {
            command.arg("--unixsocket").arg(self.directory.socket());
        }
        if let Some(files) = &self.settings.tls {
            command.args(["--tls-port", &self.tls_port.to_string()]);
            for (option, path) in files.arguments() {
                command.arg(option).arg(path);
            }
        }
        if self.settings.acl.is_some() {
            command.arg("--aclfile").arg(self.directory.path().join("users.acl"));
        }
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = self.child.insert(command.spawn().map_err(|error| cannot_run(&program, &error))?);
        self.watchdog = match Watchdog::watch_with(child, self.directory.path()) {
            Ok(watchdog) => Some(watchdog),
            Err(error) => {
                self.kill();
                return Err(error);
            }
        };
        let answer = self.await_answer();
        if answer.is_err() {
            self.kill();
        }
        answer
    }

    /// Waits for the server's word in its log as well as for its answer: another process's server may have this port.
    fn await_answer(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + START_DEADLINE;
        let ready = if self.settings.sentinel.is_some() { "Sentinel ID is" } else { "Ready to accept connections" };
        loop {
            if self.log().contains(ready) && answers(self.address()) {
                return Ok(());
            }
            let exited = match &mut self.child {
                Some(child) => child.try_wait()?,
                None => return Err(io::Error::other("the server was not started")),
            };
            if let Some(status) = exited {
                let log = self.log();
                let taken = log.contains("Address already in use");
                let kind = if taken { io::ErrorKind::AddrInUse } else { io::ErrorKind::Other };
                return Err(io::Error::new(kind, format!("redis-server ended with {status}; its log:\n{log}")));
            }
            if Instant::now() > deadline {
                let message = format!("redis-server did not answer within 10 s; its log:\n{}", self.log());
                return Err(io::Error::new(io::ErrorKind::TimedOut, message));
            }
            thread::sleep(START_POLL);
        }
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn program() -> OsString {
    PROGRAM_VARIABLES.iter().find_map(env::var_os).unwrap_or_else(|| "redis-server".into())
}

fn cannot_run(program: &OsString, error: &io::Error) -> io::Error {
    let message = format!(
        "cannot run {program:?}: {error}. This test needs a Redis server: `cargo xtask test` installs what is missing \
         and runs the tests; or set LARDER_REDIS_SERVER to the path of a redis-server program"
    );
    io::Error::new(io::ErrorKind::NotFound, message)
}

/// Free ports for clients, for the bus of a cluster and for TLS.
fn free_ports() -> io::Result<[u16; 3]> {
    let open = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0));
    // All at once, so that they differ.
    let listeners = [open()?, open()?, open()?];
    let mut ports = [0; 3];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

/// A server that demands a password answers too.
fn answers(address: SocketAddr) -> bool {
    let reply = Connection::open(address).and_then(|mut connection| connection.inline("PING"));
    reply.is_ok_and(|line| line == "+PONG" || line.starts_with("-NOAUTH") || line.starts_with("-NOPERM"))
}

/// A password as part of a URL.
pub(crate) fn percent_encoded(text: &str) -> String {
    let encode = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(encode).collect()
}

/// A directory that is removed with its server.
#[derive(Debug)]
struct ServerDirectory(PathBuf);

impl ServerDirectory {
    fn create() -> io::Result<Self> {
        loop {
            let path = env::temp_dir().join(format!("larder-redis-{:016x}", fastrand::u64(..)));
            match fs::create_dir(&path) {
                Ok(()) => return Ok(Self(path)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
        }
    }

    fn path(&self) -> &Path {
        &self.0
    }

    fn log(&self) -> PathBuf {
        self.0.join("redis.log")
    }

    fn socket(&self) -> PathBuf {
        self.0.join("redis.sock")
    }
}

impl Drop for ServerDirectory {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            // Not a panic: this may run while a failed test unwinds.
            #[expect(clippy::print_stderr, reason = "a test's output is where its left-overs are looked for")]
            {
                eprintln!("cannot remove {}: {error}", self.0.display());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_is_encoded_for_a_url() {
        assert_eq!(percent_encoded("p@ss:w/rd~1"), "p%40ss%3Aw%2Frd~1");
    }
}
