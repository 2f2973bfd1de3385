//! A throwaway Postgres server, one per test binary, that ends when the binary does. Where none is installed, the tests
//! that need it are skipped, or fail when `REGISTRAR_REQUIRE_POSTGRES` is 1.

#![expect(clippy::unwrap_used, reason = "only tests use it: a panic is their report")]

use std::{
    env, fs,
    io::Write as _,
    net::TcpListener,
    os::unix::{fs::chown, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
};

use tokio_postgres::{Client, NoTls};

/// The password of its user, `registrar`.
pub const PASSWORD: &str = "hunter2-CANARY";

static NUMBER: AtomicU32 = AtomicU32::new(0);
static SHARED: LazyLock<Option<Server>> = LazyLock::new(Server::start);

/// The URL of a new, empty database of the shared server.
pub async fn database() -> Option<String> {
    SHARED.as_ref()?.database().await.into()
}

/// The URL of a new, empty schema of the shared server: sooner made than a database.
pub async fn schema() -> Option<String> {
    let url = SHARED.as_ref()?.url("postgres");
    let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    raw(&url).await.batch_execute(&format!("CREATE SCHEMA {name}")).await.unwrap();
    Some(format!("{url}?options=-c%20search_path%3D{name}"))
}

/// A connection besides the store's, in the runtime that this is called in.
pub async fn raw(url: &str) -> Client {
    let (client, connection) = tokio_postgres::connect(url, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// A server, which ends when this is dropped.
#[derive(Debug)]
pub struct Server {
    programs: PathBuf,
    folder: PathBuf,
    port: u16,
    /// Stops the server and removes its folder when its standard input closes: with this process, however that ends.
    watchdog: Child,
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        let _ = self.watchdog.wait();
    }
}

impl Server {
    /// Starts one; nothing where none is installed.
    ///
    /// # Panics
    /// When one is required and not installed, or does not start.
    #[must_use]
    pub fn start() -> Option<Self> {
        let Some(programs) = programs() else {
            let required = env::var("REGISTRAR_REQUIRE_POSTGRES").is_ok_and(|value| value == "1");
            assert!(!required, "Postgres is required, and not installed");
            // past the capture of the test harness: somebody should see it
            let _ = writeln!(std::io::stderr(), "SKIPPED: Postgres is not installed, its tests do nothing");
            return None;
        };
        let folder = tempfile::Builder::new().prefix("registrar-pg-").tempdir().unwrap().keep();
        let password = folder.join("password");
        fs::write(&password, PASSWORD).unwrap();
        if let Some((user, group)) = unprivileged() {
            for path in [&folder, &password] {
                chown(path, Some(user), Some(group)).unwrap();
            }
        }
        let mut watchdog = as_server(Path::new("/bin/sh"));
        watchdog.arg("-c").arg("cat; \"$1\" -D \"$2/data\" -m immediate stop; rm -rf \"$2\"");
        watchdog.arg("sh").arg(programs.join("pg_ctl")).arg(&folder).process_group(0).stdin(Stdio::piped());
        let watchdog = watchdog.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let server = Self { programs, folder, port, watchdog };
        let mut initdb = as_server(&server.programs.join("initdb"));
        initdb.arg("--pwfile").arg(&password).arg("-D").arg(server.folder.join("data"));
        // SCRAM, unoptimised, takes a tenth of a second for each connection: by the socket only
        initdb.args(["--auth-local=scram-sha-256", "--auth-host=password"]);
        run(initdb.args(["-U", "registrar", "-E", "UTF8", "--locale=C", "--no-sync"]));
        server.resume();
        Some(server)
    }

    /// Starts it (again); returns when it takes connections.
    pub fn resume(&self) {
        let options = format!(
            "-p {} -k {} -c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=500 -c shared_buffers=16MB",
            self.port,
            self.folder.display()
        );
        run(self.pg_ctl().arg("-l").arg(self.folder.join("log")).args(["-w", "-o", &options, "start"]));
    }

    /// Returns when it has ended; connections in use are cut.
    pub fn stop(&self) {
        run(self.pg_ctl().args(["-w", "-m", "fast", "stop"]));
    }

    /// Gives it a certificate for `localhost`, which SCRAM is bound to, and returns that.
    pub async fn secure(&self) -> PathBuf {
        let (key, certificate) = (self.folder.join("key.pem"), self.folder.join("certificate.pem"));
        let mut openssl = as_server(Path::new("openssl"));
        openssl.args(["req", "-x509", "-nodes", "-days", "2", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]);
        openssl.args([
            "-subj",
            "/CN=a",
            "-addext",
            "basicConstraints=CA:FALSE",
            "-addext",
            "subjectAltName=DNS:localhost",
        ]);
        run(openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate));
        let raw = raw(&self.url("postgres")).await;
        for (setting, path) in [("ssl_key_file", &key), ("ssl_cert_file", &certificate)] {
            raw.batch_execute(&format!("ALTER SYSTEM SET {setting} = '{}'", path.display())).await.unwrap();
        }
        raw.batch_execute("ALTER SYSTEM SET ssl = on").await.unwrap();
        let access = self.folder.join("data/pg_hba.conf");
        let rules = fs::read_to_string(&access).unwrap();
        fs::write(access, rules.replace(" password\n", " scram-sha-256\n")).unwrap();
        self.stop();
        self.resume();
        certificate
    }

    fn pg_ctl(&self) -> Command {
        let mut command = as_server(&self.programs.join("pg_ctl"));
        command.arg("-D").arg(self.folder.join("data"));
        command
    }

    /// The URL of a new, empty database.
    pub async fn database(&self) -> String {
        let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        raw(&self.url("postgres")).await.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        self.url(&name)
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://registrar:{PASSWORD}@127.0.0.1:{}/{database}", self.port)
    }

    /// The same by way of the socket.
    pub fn socket_url(&self, database: &str) -> String {
        let folder = self.folder.to_str().unwrap().replace('/', "%2F");
        format!("postgres://registrar:{PASSWORD}@{folder}:{}/{database}", self.port)
    }
}

fn run(command: &mut Command) {
    // not piped: the server would keep the pipe open
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap();
    assert!(status.success(), "{command:?}");
}

/// The folder of `initdb`, of the newest version that there is.
fn programs() -> Option<PathBuf> {
    let found = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let version = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    let mut versions: Vec<PathBuf> = found.map(|entry| entry.path()).collect();
    versions.sort_by_key(version);
    let paths = env::var_os("PATH").unwrap_or_default();
    let folders = versions.into_iter().rev().map(|folder| folder.join("bin"));
    folders.chain(env::split_paths(&paths)).find(|folder| folder.join("initdb").exists())
}

/// A program, run by somebody whom Postgres does not refuse.
fn as_server(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir("/");
    if let Some((user, group)) = unprivileged() {
        command.uid(user).gid(group);
    }
    command
}

/// Whom to be instead of root.
fn unprivileged() -> Option<(u32, u32)> {
    let temporary = tempfile::tempdir().unwrap();
    if std::os::unix::fs::MetadataExt::uid(&fs::metadata(temporary.path()).unwrap()) != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    ["postgres", "nobody"].into_iter().find_map(|wanted| {
        let mut fields = users.lines().map(|line| line.split(':')).find(|line| line.clone().next() == Some(wanted))?;
        Some((fields.nth(2)?.parse().ok()?, fields.next()?.parse().ok()?))
    })
}
