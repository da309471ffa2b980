//! Real servers for tests: redis-server processes on free ports, in folders of their own, killed
//! when they are dropped.

use std::{
    io::{BufRead, BufReader, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A certificate for `localhost` that signs itself.
pub(crate) const CERTIFICATE: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/tests/process/tls/cert.pem");
const KEY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/process/tls/key.pem");
/// How long a server may take to answer.
const START_MAX: Duration = Duration::from_secs(10);

/// A port that was free a moment ago.
pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// One redis-server.
#[derive(Debug)]
pub(crate) struct RedisServer {
    port: u16,
    folder: TempDir,
    arguments: Vec<String>,
    child: Child,
}

impl RedisServer {
    /// A server that keeps nothing on disk, with more arguments (`["--requirepass", "x"]`).
    pub(crate) fn start(arguments: &[&str]) -> Self {
        let port = free_port();
        let port_text = port.to_string();
        let mut all = vec![
            "--port",
            &port_text,
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--enable-debug-command",
            "yes",
            "--repl-diskless-sync-delay",
            "0",
        ];
        all.extend(arguments);
        Self::launch(port, TempDir::new().unwrap(), &all)
    }

    /// A server that speaks TLS alone, with the certificate of the tests of TLS.
    pub(crate) fn start_tls(arguments: &[&str]) -> Self {
        let port = free_port();
        let port_text = port.to_string();
        let mut all = vec![
            "--port",
            "0",
            "--tls-port",
            &port_text,
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--tls-cert-file",
            CERTIFICATE,
            "--tls-key-file",
            KEY,
            "--tls-auth-clients",
            "no",
        ];
        all.extend(arguments);
        Self::launch(port, TempDir::new().unwrap(), &all)
    }

    /// A process with exactly these arguments, listening on `port`.
    pub(crate) fn launch(port: u16, folder: TempDir, arguments: &[&str]) -> Self {
        let arguments: Vec<_> = arguments.iter().map(|text| (*text).to_owned()).collect();
        let child = spawn(&folder, &arguments);
        let server = Self {
            port,
            folder,
            arguments,
            child,
        };
        server.wait();
        server
    }

    pub(crate) const fn port(&self) -> u16 {
        self.port
    }

    /// What goes into `redis.url`.
    pub(crate) fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Sends one command over a connection of its own and answers the lines of a simple reply.
    /// For tests alone: it knows nothing of nested answers.
    pub(crate) fn command(&self, words: &[&str]) -> String {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        command(stream, words).unwrap()
    }

    /// Calls of a command so far, those of scripts among them.
    pub(crate) fn calls(&self, command: &str) -> u64 {
        let client = redis::Client::open(self.url()).unwrap();
        let mut connection = client.get_connection().unwrap();
        let mut info = redis::cmd("INFO");
        let stats: String = info.arg("commandstats").query(&mut connection).unwrap();
        let of = format!("cmdstat_{command}:calls=");
        let line = stats.lines().find_map(|line| line.strip_prefix(&of));
        line.map_or(0, |rest| rest.split(',').next().unwrap().parse().unwrap())
    }

    /// Stops the process where it is: connections stay, nothing is answered.
    pub(crate) fn freeze(&self) {
        kill_process(self.pid(), Signal::STOP).unwrap();
    }

    /// Goes on.
    pub(crate) fn thaw(&self) {
        kill_process(self.pid(), Signal::CONT).unwrap();
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Starts again after [`Self::kill`], on the same port and in the same folder.
    pub(crate) fn restart(&mut self) {
        self.child = spawn(&self.folder, &self.arguments);
        self.wait();
    }

    fn pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn wait(&self) {
        let started = Instant::now();
        while !self.is_up() {
            assert!(started.elapsed() < START_MAX, "redis-server did not start");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    fn is_up(&self) -> bool {
        let Ok(stream) = TcpStream::connect(("127.0.0.1", self.port)) else {
            return false;
        };
        // A server that speaks TLS alone ends the connection: it is up.
        command(stream, &["PING"]).map_or(true, |answer| !answer.starts_with("-LOADING"))
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        let _killed = self.child.kill();
        let _reaped = self.child.wait();
    }
}

fn spawn(folder: &TempDir, arguments: &[String]) -> Child {
    Command::new("redis-server")
        .args(arguments)
        .current_dir(folder.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| panic!("redis-server must be installed for this test: {error}"))
}

fn command(mut stream: TcpStream, words: &[&str]) -> std::io::Result<String> {
    stream.set_read_timeout(Some(START_MAX))?;
    let mut message = format!("*{}\r\n", words.len());
    for word in words {
        message.push_str(&format!("${}\r\n{word}\r\n", word.len()));
    }
    stream.write_all(message.as_bytes())?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let line = line.trim_end().to_owned();
    let Some(length) = line.strip_prefix('$') else {
        return Ok(line);
    };
    let mut bytes = vec![0; length.parse::<usize>().unwrap_or(0)];
    std::io::Read::read_exact(&mut reader, &mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
