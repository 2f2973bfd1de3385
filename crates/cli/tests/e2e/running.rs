//! A running gateway.

use std::{
    io::{BufRead as _, BufReader, Read as _},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, LazyLock, Mutex},
};

use registrar_fakes::FakeHost;
use serde_json::Value;
use tempfile::TempDir;

use crate::http::{Answer, JSON, call};

static RUNTIME: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap());

/// The real binary, serving.
pub(crate) struct Gateway {
    pub(crate) address: SocketAddr,
    pub(crate) fakes: Arc<FakeHost>,
    pub(crate) folder: Arc<TempDir>,
    child: Child,
    stderr: Arc<Mutex<String>>,
}

pub(crate) fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_registrar"));
    command
        .env_remove("REGISTRAR_CONFIG")
        .env_remove("REGISTRAR_API_KEY")
        .env_remove("REGISTRAR_URL")
        .env("NO_COLOR", "1");
    command
}

pub(crate) fn fakes() -> FakeHost {
    let anywhere = SocketAddr::from(([127, 0, 0, 1], 0));
    RUNTIME.block_on(FakeHost::start(anywhere, registrar_adapters::fakes())).unwrap()
}

/// A configuration for simulated vendors: one backend a kind, named after it, and a default route to the first.
pub(crate) fn configuration(fakes: &FakeHost, folder: &Path, auth: &str, store: &str) -> PathBuf {
    // the tests run many at once
    let ballast = if store.starts_with("sqlite:") { "ballast = \"1MiB\"\n" } else { "" };
    let mut text = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"http://127.0.0.1:0\"\n[store]\nurl = \"{store}\"\n{ballast}[auth]\nmode = \"{auth}\"\n"
    );
    // what a simulated vendor has done is seen at once
    let grace = "300ms";
    for kind in fakes.kinds() {
        let mut settings = fakes.fake(kind).unwrap().settings(&fakes.base_url(kind));
        for pointer in ["/token", "/m2m/client_secret"] {
            if let Some(secret) = settings.pointer_mut(pointer) {
                let file = folder.join(format!("{kind}.secret"));
                std::fs::write(&file, secret.as_str().unwrap()).unwrap();
                *secret = Value::String(format!("file:{}", file.display()));
            }
        }
        text.push_str(&format!(
            "[[backends]]\nname = \"{kind}\"\nkind = \"{kind}\"\ntimeout = \"2s\"\nvisibility_grace = \"{grace}\"\nsettings = {}\n",
            inline(&settings)
        ));
    }
    text.push_str(
        "[[routes]]\nname = \"wallets\"\nwhen = 'metadata.scope.contains(\"wallet_\")'\nbackend = \"bitgo\"\n",
    );
    text.push_str("[[routes]]\nname = \"named\"\nwhen = 'has(metadata.client_name)'\nbackend = \"loop\"\n");
    let file = folder.join("registrar.toml");
    std::fs::write(&file, text).unwrap();
    file
}

fn inline(value: &Value) -> String {
    match value {
        Value::Object(object) => {
            let members: Vec<String> = object.iter().map(|(k, v)| format!("{k} = {}", inline(v))).collect();
            format!("{{ {} }}", members.join(", "))
        }
        other => other.to_string(),
    }
}

/// The process, where it listens, and what it has logged so far.
type Running = (Child, SocketAddr, Arc<Mutex<String>>);

impl Gateway {
    pub(crate) fn start() -> Self {
        Self::start_with("none")
    }

    pub(crate) fn start_with(auth: &str) -> Self {
        Self::start_edited(auth, |text| text)
    }

    /// Starts with another configuration than the usual one.
    pub(crate) fn start_edited(auth: &str, edit: impl FnOnce(String) -> String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let fakes = fakes();
        let store = format!("sqlite:{}", folder.path().join("registrar.db").display());
        let config = configuration(&fakes, folder.path(), auth, &store);
        let text = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, edit(text)).unwrap();
        let (child, address, stderr) = Self::spawn(&config, &[]);
        Self { address, fakes: Arc::new(fakes), folder: Arc::new(folder), child, stderr }
    }

    /// Another process with the same configuration, in front of the same vendors.
    pub(crate) fn beside(&self) -> Self {
        let (child, address, stderr) = Self::spawn(&self.config(), &[]);
        Self { address, fakes: Arc::clone(&self.fakes), folder: Arc::clone(&self.folder), child, stderr }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The exit code, if it has ended.
    pub(crate) fn ended(&mut self) -> Option<i32> {
        self.child.try_wait().unwrap().map(|status| status.code().unwrap_or(-1))
    }

    fn spawn(config: &Path, environment: &[(&str, &str)]) -> Running {
        Self::try_spawn(config, environment).unwrap_or_else(|(code, told)| panic!("it ended with {code:?}: {told}"))
    }

    /// A process that serves, or the exit code and the last words of one that refused to.
    fn try_spawn(config: &Path, environment: &[(&str, &str)]) -> Result<Running, (Option<i32>, String)> {
        let mut child = binary()
            .envs(environment.iter().copied())
            .args(["serve", "--config"])
            .arg(config)
            .env("REGISTRAR_LOG", "trace")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = Arc::new(Mutex::new(String::new()));
        let (mut pipe, sink) = (child.stderr.take().unwrap(), Arc::clone(&stderr));
        let reader = std::thread::spawn(move || {
            let mut buffer = [0; 8192];
            while let Ok(n @ 1..) = pipe.read(&mut buffer) {
                sink.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..n]));
            }
        });
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        if let Ok(address) = line.trim().rsplit("http://").next().unwrap().parse() {
            return Ok((child, address, stderr));
        }
        let code = child.wait().unwrap().code();
        reader.join().unwrap();
        let told = stderr.lock().unwrap().clone();
        Err((code, told))
    }

    /// Starts another process on the same files, which may refuse to: with this exit code and these words.
    pub(crate) fn try_restart(&mut self) -> Result<(), (Option<i32>, String)> {
        (self.child, self.address, self.stderr) = Self::try_spawn(&self.config(), &[])?;
        Ok(())
    }

    /// Ends the process without asking, and starts another one on the same files.
    pub(crate) fn kill_and_restart(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.restart(None);
    }

    /// Starts another process on the same files, which dies at the failpoint if there is one.
    pub(crate) fn restart(&mut self, failpoint: Option<&str>) {
        self.restart_with(&[("REGISTRAR_FAILPOINT", failpoint.unwrap_or("none"))]);
    }

    /// Starts another process on the same files and in this environment.
    pub(crate) fn restart_with(&mut self, environment: &[(&str, &str)]) {
        (self.child, self.address, self.stderr) = Self::spawn(&self.folder.path().join("registrar.toml"), environment);
    }

    /// Changes the configuration file, for the next process.
    pub(crate) fn reconfigure(&self, from: &str, to: &str) {
        let file = self.config();
        let text = std::fs::read_to_string(&file).unwrap();
        assert!(text.contains(from), "{text}");
        std::fs::write(file, text.replace(from, to)).unwrap();
    }

    /// Waits until the process has ended by itself.
    pub(crate) fn wait(&mut self) {
        self.child.wait().unwrap();
    }

    /// Ends the process without asking.
    pub(crate) fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends a signal.
    pub(crate) fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// SIGTERM; the exit code.
    pub(crate) fn terminate(&mut self) -> Option<i32> {
        self.signal("-TERM");
        self.child.wait().unwrap().code()
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.folder.path().join("registrar.toml")
    }

    pub(crate) fn log(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    pub(crate) fn call(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        call(self.address, method, path, headers, body.to_string().as_bytes())
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        call(self.address, "GET", path, &[], b"")
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Answer {
        self.call("POST", path, &[JSON], body)
    }

    /// Writes that reached a vendor's API.
    pub(crate) fn vendor_writes(&self) -> usize {
        self.fakes.ledger(None).iter().filter(|e| e.method != "GET" && !e.path.ends_with("/oauth/token")).count()
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        // it may have ended already
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
