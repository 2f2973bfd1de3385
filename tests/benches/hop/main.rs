//! What a translated creation costs, against nginx's plain hop to the same simulated vendor, interleaved in one run.
//!
//! `cargo build --release -p registrar && cargo bench -p registrar-tests --bench hop`; nginx must be installed. Figures
//! are CPU time of the proxy process per request, so that a busy machine disturbs them little. Everything stays on
//! loopback and ends by itself.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_precision_loss,
    reason = "a benchmark prints its figures"
)]

use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use registrar_fakes::FakeHost;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

mod gateway;

/// As in the gateway's own binary.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Fallible<T> = Result<T, Box<dyn std::error::Error>>;

const CONNECTIONS: usize = 64;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(2);
/// At one connection: this many requests in a row, this many times.
const SEQUENCE: usize = 100;
const SEQUENCES: usize = 20;
/// The vendor kind that is called.
const KIND: &str = "loop";

const VENDOR_BODY: &str = r#"{"client_name":"Bench","client_type":"confidential","redirect_uris":["https://bench.example/cb"],"allowed_scopes":["openid","profile"]}"#;
const CANONICAL_BODY: &str = r#"{"backend":"bench","metadata":{"client_name":"Bench","redirect_uris":["https://bench.example/cb"],"scope":"openid profile"}}"#;

/// A process under test.
struct Proxy {
    name: &'static str,
    child: Child,
    /// The process whose time counts.
    pid: u32,
    address: SocketAddr,
    request: Vec<u8>,
    cpu_us: Vec<f64>,
    rate: Vec<f64>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        // nginx's worker ends only when its master may say goodbye
        let _ = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status();
        let _ = self.child.wait();
    }
}

fn main() -> Fallible<()> {
    if let Ok(config) = std::env::var(gateway::CONFIG) {
        return gateway::run(&config);
    }
    let binary = binary()?;
    let this = std::env::current_exe()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let folder = tempfile::tempdir()?;
    let fakes = registrar_adapters::fakes().into_iter().filter(|f| f.kind() == KIND).collect();
    let host = runtime.block_on(FakeHost::start(SocketAddr::from(([127, 0, 0, 1], 0)), fakes))?;
    host.without_ledger();

    let mut ready = Vec::new();
    let mut proxies = vec![nginx(&host, folder.path())?];
    for (name, program, store) in [
        ("registrar, no store", &this, "memory:".to_owned()),
        ("registrar, durable", &binary, format!("sqlite:{}/bench.db", folder.path().display())),
    ] {
        let (proxy, started) = registrar(program, &host, folder.path(), name, &store)?;
        if program == &binary {
            ready.push(started);
        }
        proxies.push(proxy);
    }
    std::thread::sleep(Duration::from_millis(500));
    let idle: Vec<u64> = proxies.iter().map(|p| rss_kib(p.pid)).collect();
    for round in 0..=ROUNDS {
        for proxy in &mut proxies {
            let before = cpu(proxy.pid)?;
            let began = Instant::now();
            let done = runtime.block_on(load(proxy.address, proxy.request.clone(), ROUND))?;
            let spent = cpu(proxy.pid)? - before;
            // the first round warms up
            if round > 0 {
                proxy.cpu_us.push(spent * 1e6 / done as f64);
                proxy.rate.push(done as f64 / began.elapsed().as_secs_f64());
            }
            eprintln!("round {round}: {:<22} {done} requests", proxy.name);
        }
    }
    let base = median(&proxies[0].cpu_us);
    println!("{CONNECTIONS} connections, {ROUNDS} rounds of {ROUND:?} each, one core for the proxy, medians:");
    println!("{:<24}{:>14}{:>10}{:>12}{:>12}", "", "CPU/request", "ratio", "requests/s", "idle RSS");
    for (proxy, idle) in proxies.iter().zip(&idle) {
        let cost = median(&proxy.cpu_us);
        println!(
            "{:<24}{:>11.1} us{:>10.2}{:>12.0}{:>8.1} MB",
            proxy.name,
            cost,
            cost / base,
            median(&proxy.rate),
            *idle as f64 / 1024.0
        );
    }
    one_by_one(&runtime, &proxies, folder.path())?;
    let worst = ready.iter().max().copied().unwrap_or_default();
    println!("start to ready: {} ms at the most", worst.as_millis());
    Ok(())
}

/// Latencies at one connection, interleaved with the disk's own: a durable create waits for two fsyncs.
fn one_by_one(runtime: &tokio::runtime::Runtime, proxies: &[Proxy], folder: &Path) -> Fallible<()> {
    let mut file = std::fs::File::create(folder.join("fsync"))?;
    let mut syncs = Vec::new();
    let mut creates = vec![Vec::new(); proxies.len()];
    for _ in 0..SEQUENCES {
        for (proxy, creates) in proxies.iter().zip(&mut creates) {
            creates.extend(runtime.block_on(sequence(proxy.address, &proxy.request))?);
        }
        for _ in 0..SEQUENCE {
            let began = Instant::now();
            std::io::Write::write_all(&mut file, &[1; 4096])?;
            file.sync_all()?;
            syncs.push(began.elapsed().as_secs_f64() * 1e6);
        }
    }
    println!("one connection, {} requests each:", SEQUENCES * SEQUENCE);
    for (name, times) in proxies.iter().map(|p| p.name).zip(&creates).chain([("append 4 KiB + fsync", &syncs)]) {
        println!("{name:<24}p50{:>8.0} us   p99{:>8.0} us", quantile(times, 0.5), quantile(times, 0.99));
    }
    Ok(())
}

/// Requests one after the other over one connection; how long each took, in microseconds.
async fn sequence(address: SocketAddr, request: &[u8]) -> Fallible<Vec<f64>> {
    let mut stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let mut buffer = Vec::with_capacity(16 * 1024);
    let mut times = Vec::with_capacity(SEQUENCE);
    for _ in 0..SEQUENCE {
        let began = Instant::now();
        stream.write_all(request).await?;
        answer(&mut stream, &mut buffer).await?;
        times.push(began.elapsed().as_secs_f64() * 1e6);
    }
    Ok(times)
}

fn binary() -> Fallible<PathBuf> {
    // the bench runs from target/release/deps
    let here = std::env::current_exe()?;
    let folder = here.parent().and_then(Path::parent).ok_or("no target folder")?;
    let binary = folder.join("registrar");
    if binary.exists() {
        Ok(binary)
    } else {
        Err(format!("{} is missing: cargo build --release -p registrar", binary.display()).into())
    }
}

fn nginx(host: &FakeHost, folder: &Path) -> Fallible<Proxy> {
    let address = free()?;
    let text = format!(
        "daemon off; worker_processes 1; pid {0}/nginx.pid; error_log stderr error;\nevents {{ worker_connections 1024; }}\nhttp {{ access_log off; keepalive_requests 1000000000;\n  client_body_temp_path {0}/b; proxy_temp_path {0}/p; fastcgi_temp_path {0}/f; uwsgi_temp_path {0}/u; scgi_temp_path {0}/s;\n  upstream v {{ server {1}; keepalive 128; keepalive_requests 1000000000; }}\n  server {{ listen {address}; location / {{ proxy_pass http://v; proxy_http_version 1.1; proxy_set_header Connection \"\"; }} }} }}\n",
        folder.display(),
        host.addr()
    );
    let file = folder.join("nginx.conf");
    std::fs::write(&file, text)?;
    let child = Command::new("nginx").arg("-p").arg(folder).arg("-c").arg(&file).stderr(Stdio::inherit()).spawn()?;
    let mut pid = None;
    for _ in 0..200 {
        std::thread::sleep(Duration::from_millis(10));
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).unwrap_or_default();
        pid = children.split_whitespace().next().and_then(|p| p.parse().ok());
        if pid.is_some() {
            break;
        }
    }
    let pid = pid.ok_or("nginx has no worker")?;
    pin(pid);
    let path = format!("/{KIND}/v1/admin/oauth-clients");
    let request = request(address, &path, &format!("authorization: Bearer fake-{KIND}-admin-token\r\n"), VENDOR_BODY);
    Ok(Proxy { name: "nginx, plain hop", child, pid, address, request, cpu_us: Vec::new(), rate: Vec::new() })
}

fn registrar(
    binary: &Path,
    host: &FakeHost,
    folder: &Path,
    name: &'static str,
    store: &str,
) -> Fallible<(Proxy, Duration)> {
    let config = format!(
        "[server]\nlisten = \"127.0.0.1:0\"\npublic_url = \"http://127.0.0.1:0\"\nworkers = 1\n[store]\nurl = \"{store}\"\n[auth]\nmode = \"none\"\n[[backends]]\nname = \"bench\"\nkind = \"{KIND}\"\nmax_in_flight = 1024\nsettings = {{ base_url = \"{}\", token = \"env:BENCH_TOKEN\" }}\n",
        host.base_url(KIND)
    );
    let file = folder.join(format!("{}.toml", store.len()));
    std::fs::write(&file, config)?;
    let began = Instant::now();
    let mut child = Command::new(binary)
        .args(["serve", "--config"])
        .arg(&file)
        .env(gateway::CONFIG, &file)
        .env("BENCH_TOKEN", format!("fake-{KIND}-admin-token"))
        .env("REGISTRAR_LOG", "warn")
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().ok_or("no stdout")?).read_line(&mut line)?;
    let ready = began.elapsed();
    let address: SocketAddr = line.trim().rsplit("http://").next().unwrap_or("").parse()?;
    let pid = child.id();
    pin(pid);
    let request = request(address, "/v1/clients", "", CANONICAL_BODY);
    Ok((Proxy { name, child, pid, address, request, cpu_us: Vec::new(), rate: Vec::new() }, ready))
}

fn request(address: SocketAddr, path: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("POST {path} HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n{headers}content-length: {}\r\n\r\n{body}", body.len()).into_bytes()
}

fn free() -> Fallible<SocketAddr> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// One core for the proxy, all of its threads.
fn pin(pid: u32) {
    let status = Command::new("taskset").args(["-a", "-cp", "1", &pid.to_string()]).stdout(Stdio::null()).status();
    if !status.is_ok_and(|s| s.success()) {
        eprintln!("taskset is missing: the proxy may use both cores");
    }
}

/// Sends the same request over every connection until the time is up; the number of successes.
async fn load(address: SocketAddr, request: Vec<u8>, time: Duration) -> Fallible<u64> {
    let done = Arc::new(AtomicU64::new(0));
    let until = Instant::now() + time;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (request, done) = (request.clone(), Arc::clone(&done));
        tasks.spawn(async move {
            let mut stream = TcpStream::connect(address).await.map_err(|e| e.to_string())?;
            stream.set_nodelay(true).map_err(|e| e.to_string())?;
            let mut buffer = Vec::with_capacity(16 * 1024);
            while Instant::now() < until {
                stream.write_all(&request).await.map_err(|e| e.to_string())?;
                answer(&mut stream, &mut buffer).await?;
                done.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, String>(())
        });
    }
    while let Some(result) = tasks.join_next().await {
        result??;
    }
    Ok(done.load(Ordering::Relaxed))
}

/// Reads one answer, which must be a 201 with a length.
async fn answer(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> Result<(), String> {
    buffer.clear();
    loop {
        let n = stream.read_buf(buffer).await.map_err(|e| e.to_string())?;
        if n == 0 {
            return Err("the proxy closed the connection".to_owned());
        }
        let Some(end) = buffer.windows(4).position(|w| w == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&buffer[..end]).to_ascii_lowercase();
        if !head.starts_with("http/1.1 201") {
            return Err(format!("{} {}", head.lines().next().unwrap_or(""), String::from_utf8_lossy(&buffer[end..])));
        }
        let length =
            head.lines().find_map(|l| l.strip_prefix("content-length: ")).and_then(|l| l.trim().parse::<usize>().ok());
        let total = end + 4 + length.ok_or("an answer without a length")?;
        while buffer.len() < total {
            if stream.read_buf(buffer).await.map_err(|e| e.to_string())? == 0 {
                return Err("the answer was cut".to_owned());
            }
        }
        return Ok(());
    }
}

/// Seconds of processor time, user and system.
fn cpu(pid: u32) -> Fallible<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = |i: usize| fields.get(i).and_then(|f| f.parse::<f64>().ok()).unwrap_or(0.0);
    // fields 14 and 15 of proc(5), in ticks of 1/100 s
    Ok((ticks(11) + ticks(12)) / 100.0)
}

fn rss_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status
        .lines()
        .find_map(|l| l.strip_prefix("VmRSS:"))
        .and_then(|l| l.split_whitespace().next())
        .and_then(|n| n.parse().ok())
        .unwrap_or(0)
}

fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index into some thousands of values")]
fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = (sorted.len() as f64 * part) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or(0.0)
}
