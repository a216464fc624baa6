//! A `forebay serve` process: its files, its life (start, kill -9, graceful stop, restart on the same directories), and
//! connections to it. Knows the command line and the configuration's keys, and nothing of how the server works.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use parking_lot::Mutex;
use tonic::transport::{Channel, Endpoint};

use crate::process::{forebay, guard};
use crate::v1::admin_client::AdminClient;
use crate::v1::diagnoses_client::DiagnosesClient;
use crate::v1::feature_store_client::FeatureStoreClient;
use crate::v1::registry_client::RegistryClient;
use crate::v1::{GetStatusRequest, GetStatusResponse, ShardState};
use crate::wait::eventually_within;

/// What a server is started with.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// Holds `forebay.toml`, the definitions and the data; outlives restarts.
    pub dir: PathBuf,
    /// The binary; `forebay` unless a test wants another.
    pub binary: PathBuf,
    /// Name in the consumer groups.
    pub instance: String,
    /// Environment variables besides ours.
    pub env: Vec<(String, String)>,
    /// Most messages are about one thing; raise for debugging.
    pub log: String,
}

/// A running server; killed when dropped.
pub struct Server {
    /// What it was started with.
    pub config: ServerConfig,
    /// host:port of gRPC.
    pub grpc: String,
    /// host:port of metrics and health.
    pub http: String,
    child: Option<Child>,
    log: Arc<Mutex<String>>,
}

/// The services of one server over one channel, with room for large answers.
#[derive(Debug, Clone)]
pub struct Connection {
    /// Reads and writes.
    pub store: FeatureStoreClient<Channel>,
    /// Status and definitions.
    pub admin: AdminClient<Channel>,
    /// Snapshots, predictions, outcomes.
    pub diagnoses: DiagnosesClient<Channel>,
    /// The registry.
    pub registry: RegistryClient<Channel>,
}

impl ServerConfig {
    /// Writes `forebay.toml` (ports free, storage inside `dir`) and the definitions. `more` is TOML merged over the
    /// defaults, key by key.
    pub fn write(dir: &Path, bootstrap: &str, group: &str, definitions: &str, more: &str) -> ServerConfig {
        let defaults = format!(
            "[server]\ninstance = \"one\"\nlisten = \"127.0.0.1:0\"\nhttp_listen = \"127.0.0.1:0\"\n\
             definitions = \"definitions\"\n[kafka]\nbootstrap = \"{bootstrap}\"\ngroup = \"{group}\"\n\
             topics_check_interval = \"200ms\"\n[kafka.consumer]\n\"session.timeout.ms\" = \"6000\"\n\
             \"heartbeat.interval.ms\" = \"500\"\n[storage]\ndir = \"data\"\nsync_interval = \"20ms\"\nsegment = \"16MiB\"\n"
        );
        let mut config: toml::Table = defaults.parse().expect("TOML");
        merge(&mut config, more.parse().expect("the test's configuration is TOML"));
        let instance = config["server"]["instance"].as_str().expect("instance").to_owned();
        // Paths relative to the working directory or to the file: absolute is both.
        let at = |name: &str| toml::Value::String(dir.join(name).to_str().expect("UTF-8").to_owned());
        for (section, key) in [("server", "definitions"), ("storage", "dir")] {
            let value = config[section][key].as_str().expect("a path").to_owned();
            config[section].as_table_mut().expect("a table").insert(key.into(), at(&value));
        }
        std::fs::create_dir_all(dir.join("definitions")).expect("a directory");
        std::fs::write(dir.join("forebay.toml"), config.to_string()).expect("written");
        std::fs::write(dir.join("definitions/all.toml"), definitions).expect("written");
        ServerConfig { dir: dir.into(), binary: forebay(), instance, env: Vec::new(), log: "info".into() }
    }

    /// The path of `forebay.toml`.
    pub fn file(&self) -> PathBuf {
        self.dir.join("forebay.toml")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .arg("serve")
            .arg("--config")
            .arg(self.file())
            .env("RUST_LOG", &self.log)
            .env("RUST_BACKTRACE", "1");
        command.envs(self.env.iter().map(|(key, value)| (key, value)));
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        guard(&mut command);
        command
    }

    /// Starts it and waits until its sockets are bound; `Err` with its exit code and log if it ends before that.
    pub async fn try_start(&self) -> Result<Server, (i32, String)> {
        let config = self.clone();
        tokio::task::spawn_blocking(move || start(config)).await.expect("no panic")
    }

    /// Starts it; panics with its log if it does not start.
    pub async fn start(&self) -> Server {
        self.try_start().await.unwrap_or_else(|(code, log)| panic!("the server ended with {code}:\n{log}"))
    }
}

fn start(config: ServerConfig) -> Result<Server, (i32, String)> {
    let mut child = config.command().spawn().expect("the server's binary runs");
    let log = Arc::new(Mutex::new(String::new()));
    let reader = collect(child.stderr.take().expect("piped"), log.clone());
    let mut out = BufReader::new(child.stdout.take().expect("piped"));
    let mut line = String::new();
    out.read_line(&mut line).expect("readable");
    let Ok(ports) = serde_json::from_str::<serde_json::Value>(&line) else {
        let status = child.wait().expect("it ends");
        reader.join().expect("no panic");
        let text = log.lock().clone();
        return Err((status.code().unwrap_or(-1), line + &text));
    };
    assert_eq!(ports["event"], "listening", "{line}");
    let address = |name: &str| ports[name].as_str().expect("an address").to_owned();
    Ok(Server { grpc: address("grpc"), http: address("http"), config, child: Some(child), log })
}

pub(crate) fn collect(
    mut from: impl Read + Send + 'static,
    into: Arc<Mutex<String>>,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let mut buffer = [0; 16 << 10];
        while let Ok(read @ 1..) = from.read(&mut buffer) {
            into.lock().push_str(&String::from_utf8_lossy(&buffer[..read]));
        }
    })
}

/// Puts the keys of `over` over those of `base`, table by table.
fn merge(base: &mut toml::Table, over: toml::Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(toml::Value::Table(inner)), toml::Value::Table(value)) => merge(inner, value),
            (_, value) => drop(base.insert(key, value)),
        }
    }
}

impl Server {
    /// Everything it has logged.
    pub fn log(&self) -> String {
        self.log.lock().clone()
    }

    /// Process id.
    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("not a look at another's").id()
    }

    /// The same server, without power over its life.
    pub fn look(&self) -> Server {
        let (config, grpc, http) = (self.config.clone(), self.grpc.clone(), self.http.clone());
        Server { config, grpc, http, child: None, log: self.log.clone() }
    }

    /// Whether the process is alive.
    pub fn alive(&mut self) -> bool {
        self.child.as_mut().is_none_or(|child| child.try_wait().expect("a child").is_none())
    }

    /// `kill -9`, at once.
    pub fn kill9(&mut self) {
        if let Some(child) = &mut self.child {
            child.kill().ok();
            child.wait().ok();
        }
    }

    /// SIGTERM; waits for the end and gives the exit code. Panics if it takes longer than 30 s.
    pub async fn terminate(&mut self) -> i32 {
        let pid = rustix::process::Pid::from_raw(self.pid() as i32).expect("a pid");
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("it is there");
        let log = self.log.clone();
        let ended = eventually_within(Duration::from_secs(30), "the server ends after SIGTERM", || {
            let child = self.child.as_mut().expect("not a look at another's");
            let ended: Option<ExitStatus> = child.try_wait().expect("a child");
            let log = log.clone();
            async move { ended.with_context(|| format!("still running: {}", tail(&log.lock()))) }
        });
        ended.await.code().unwrap_or(-1)
    }

    /// Starts it again on the same files (after `kill9` or `terminate`).
    pub async fn restart(&mut self) {
        self.kill9();
        let next = self.config.start().await;
        *self = next;
    }

    /// One channel to it.
    pub async fn connect(&self) -> Connection {
        Connection::to(&format!("http://{}", self.grpc)).await
    }

    /// Waits until every shard it has is READY and `/readyz` says 200.
    pub async fn wait_ready(&self) {
        let http = self.http.clone();
        let log = self.log.clone();
        eventually_within(Duration::from_secs(90), "the server is ready", || {
            let (http, log) = (http.clone(), log.clone());
            async move {
                let (code, body) = http_get(&http, "/readyz").await?;
                ensure!(code == 200, "/readyz {code} {body}\n{}", tail(&log.lock()));
                Ok(())
            }
        })
        .await;
    }

    /// GET of a path on the HTTP port: code and body.
    pub async fn http_get(&self, path: &str) -> anyhow::Result<(u16, String)> {
        http_get(&self.http, path).await
    }

    /// Waits until its log has this text.
    pub async fn wait_log(&self, text: &str) {
        crate::eventually(&format!("the log says {text:?}"), || async {
            ensure!(self.log().contains(text), "{}", tail(&self.log()));
            Ok(())
        })
        .await;
    }

    /// Bytes of memory it has resident.
    pub fn resident_bytes(&self, pid: u32) -> u64 {
        let statm = std::fs::read_to_string(format!("/proc/{pid}/statm")).expect("a live process");
        statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok()).expect("pages") * 4096
    }

    /// A sample of `/metrics`: the first line with this prefix (name and labels), as a number.
    pub async fn metric(&self, prefix: &str) -> Option<f64> {
        let (_, text) = self.http_get("/metrics").await.ok()?;
        let line = text.lines().find(|line| line.starts_with(prefix))?;
        line.rsplit(' ').next()?.parse().ok()
    }
}

pub(crate) fn tail(log: &str) -> &str {
    let from = log.char_indices().rev().nth(3000).map_or(0, |(at, _)| at);
    &log[from..]
}

impl Drop for Server {
    /// Kills it; a test that fails shows the end of what it logged, and puts all of it where FOREBAY_TEST_LOGS says.
    fn drop(&mut self) {
        self.kill9();
        if std::thread::panicking() && self.child.is_some() {
            eprintln!("---- log of server {} ----\n{}", self.config.instance, tail(&self.log()));
            if let (Some(dir), Some(name)) =
                (std::env::var_os("FOREBAY_TEST_LOGS"), self.config.dir.file_name())
            {
                let file = Path::new(&dir).join(name).with_extension("log");
                std::fs::write(&file, self.log()).unwrap_or_else(|error| eprintln!("{file:?}: {error}"));
            }
        }
    }
}

pub(crate) async fn http_get(address: &str, path: &str) -> anyhow::Result<(u16, String)> {
    let (address, path) = (address.to_owned(), path.to_owned());
    let get = move || -> anyhow::Result<(u16, String)> {
        let mut socket = TcpStream::connect(address)?;
        socket.set_read_timeout(Some(Duration::from_secs(10)))?;
        write!(socket, "GET {path} HTTP/1.1\r\nHost: it\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        let code = answer.split(' ').nth(1).context("no status line")?.parse()?;
        let Some((_, body)) = answer.split_once("\r\n\r\n") else { bail!("no body: {answer}") };
        Ok((code, body.to_owned()))
    };
    tokio::task::spawn_blocking(get).await?
}

impl Connection {
    /// Connects to `http://host:port` or `https://…` with the default settings.
    pub async fn to(url: &str) -> Connection {
        let endpoint = Endpoint::from_shared(url.to_owned()).expect("a URL");
        let channel = eventually_within(Duration::from_secs(10), "connects", || {
            let endpoint = endpoint.clone();
            async move { Ok(endpoint.connect().await?) }
        });
        Connection::over(channel.await)
    }

    /// Uses a channel that is there.
    pub fn over(channel: Channel) -> Connection {
        let size = 256 << 20;
        Connection {
            store: FeatureStoreClient::new(channel.clone())
                .max_decoding_message_size(size)
                .max_encoding_message_size(size),
            admin: AdminClient::new(channel.clone()).max_decoding_message_size(size),
            diagnoses: DiagnosesClient::new(channel.clone())
                .max_decoding_message_size(size)
                .max_encoding_message_size(size),
            registry: RegistryClient::new(channel),
        }
    }

    /// What every shard is doing.
    pub async fn status(&self) -> anyhow::Result<GetStatusResponse> {
        let request = GetStatusRequest::default();
        Ok(self.admin.clone().get_status(request).await?.into_inner())
    }

    /// Waits until a lane has this many shards READY.
    pub async fn wait_shards(&self, lane: &str, count: usize) {
        crate::eventually(&format!("{count} shards of {lane} are ready"), || async move {
            let status = self.status().await?;
            let lane = status.lanes.iter().find(|l| l.lane == lane).context("no such lane")?;
            let ready = lane.shards.iter().filter(|shard| shard.state() == ShardState::Ready).count();
            ensure!(ready == count, "{ready} of {count}: {:?}", lane.shards);
            Ok(())
        })
        .await;
    }
}
