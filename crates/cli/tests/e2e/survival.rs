//! Vendors and callers that behave badly do not harm the others, and a stop ends.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use registrar_fakes::{Fault, ScriptedFault, When};
use serde_json::{Value, json};

use crate::running::Gateway;

fn registration(backend: &str, name: &str) -> Value {
    json!({ "backend": backend, "metadata": { "client_name": name, "redirect_uris": ["https://a.example/cb"], "scope": "openid profile" } })
}

fn script(gateway: &Gateway, kind: &str, times: u32, fault: Fault) {
    gateway.fakes.script(ScriptedFault {
        kind: Some(kind.to_owned()),
        method: Some("POST".to_owned()),
        path_contains: None,
        skip: 0,
        times,
        // a late answer needs the work, the others prevent it
        when: if matches!(fault, Fault::Delay { .. }) { When::After } else { When::Before },
        fault,
    });
}

#[test]
fn a_vendor_that_hangs_does_not_hold_up_another() {
    let gateway = Gateway::start();
    script(&gateway, "loop", 1000, Fault::Hang {});
    std::thread::scope(|scope| {
        let stuck: Vec<_> = (0..32)
            .map(|n| {
                let gateway = &gateway;
                scope.spawn(move || gateway.post("/v1/clients", &registration("loop", &format!("Stuck {n}"))))
            })
            .collect();
        while gateway.vendor_writes() < 32 {
            std::thread::yield_now();
        }
        // all of them are waiting for the vendor now
        for n in 0..20 {
            let answer = gateway.post("/v1/clients", &registration("authms", &format!("Free {n}")));
            assert_eq!(answer.status, 201, "{}", answer.json());
        }
        let still = gateway.get("/v1/backends/loop").json();
        assert_eq!(still["health"]["in_flight"], json!(32), "the others finished while these were stuck: {still}");
        for call in stuck {
            let answer = call.join().unwrap();
            assert_eq!((answer.status, answer.text("/code").as_str()), (504, "outcome-unknown"));
        }
    });
}

#[test]
fn an_open_circuit_refuses_before_the_intent_and_closes_again() {
    let gateway = Gateway::start();
    script(&gateway, "authms", 40, Fault::Html { status: 503 });
    let mut refused = None;
    for n in 0..40 {
        let answer = gateway.post("/v1/clients", &registration("authms", &format!("Down {n}")));
        assert!(answer.status >= 500, "{}", answer.json());
        if answer.json().get("operation").is_none() {
            refused = Some(answer);
            break;
        }
    }
    let refused = refused.expect("the circuit never opened");
    assert_eq!((refused.status, refused.text("/outcome").as_str()), (503, "not_performed"));
    assert!(refused.header("retry-after").is_some());
    let writes = gateway.vendor_writes();
    assert!(writes < 40, "{writes} calls");
    let state = gateway.get("/v1/backends/authms").json();
    assert_eq!(state["health"]["circuit"]["state"], json!("open"), "{state}");
    assert_eq!(gateway.post("/v1/clients", &registration("loop", "Elsewhere")).status, 201, "others are not concerned");

    // the vendor recovers: a read finds out, and writes are taken again
    gateway.fakes.clear_faults();
    let deadline = Instant::now() + Duration::from_secs(30);
    while gateway.post("/v1/clients", &registration("authms", "Up again")).status != 201 {
        assert!(Instant::now() < deadline, "{}", gateway.get("/v1/backends/authms").json());
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn two_thousand_stalled_sockets_leave_new_requests_unharmed() {
    let gateway = Gateway::start();
    let mut stalled = Vec::new();
    for n in 0..2000 {
        let Ok(mut stream) = TcpStream::connect(gateway.address) else { break };
        let half = if n % 2 == 0 {
            "POST /v1/clients HTTP/1.1\r\nhost: localhost\r\n"
        } else {
            "POST /v1/clients HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 100\r\n\r\n{"
        };
        stream.write_all(half.as_bytes()).unwrap();
        stalled.push(stream);
    }
    assert!(stalled.len() >= 900, "only {} sockets: the limit of open files is too low for this test", stalled.len());
    for n in 0..10 {
        let answer = gateway.post("/v1/clients", &registration("loop", &format!("Calm {n}")));
        assert_eq!(answer.status, 201);
    }
    // a stalled head is ended by the gateway, not by us
    let mut first = stalled.remove(0);
    first.set_read_timeout(Some(Duration::from_secs(25))).unwrap();
    let mut bytes = Vec::new();
    assert!(first.read_to_end(&mut bytes).is_ok(), "the connection was never ended");
}

#[test]
fn a_stop_under_load_ends_in_time_and_leaves_nothing_open() {
    let mut gateway = Gateway::start();
    script(&gateway, "loop", 4, Fault::Delay { ms: 500 });
    let address = gateway.address;
    // one caller who never finishes, four whose writes are under way
    let mut stalled = TcpStream::connect(address).unwrap();
    stalled.write_all(b"POST /v1/clients HTTP/1.1\r\nhost: localhost\r\n").unwrap();
    let calls: Vec<_> = (0..4)
        .map(|n| {
            let body = registration("loop", &format!("Stopping {n}")).to_string();
            std::thread::spawn(move || {
                crate::http::raw(address, format!("POST /v1/clients HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len()).as_bytes())
            })
        })
        .collect();
    while gateway.vendor_writes() < 4 {
        std::thread::yield_now();
    }
    let began = Instant::now();
    assert_eq!(gateway.terminate(), Some(0), "{}", gateway.log());
    assert!(began.elapsed() < Duration::from_secs(30));
    for call in calls {
        assert_eq!(call.join().unwrap().map(|a| a.status), Some(201), "a write under way is finished and answered");
    }
    gateway.restart(None);
    assert_eq!(gateway.get("/v1/clients").json()["items"].as_array().unwrap().len(), 4);
    for state in ["pending", "unknown"] {
        assert_eq!(gateway.get(&format!("/v1/operations?state={state}")).json()["items"], json!([]));
    }
}

/// The log's reader leaves, never reads, or has a full disk: callers do not notice.
#[test]
fn a_log_that_cannot_be_written_costs_nothing_but_the_log() {
    use std::process::Stdio;

    for reader in ["gone", "stalled", "full"] {
        let mut gateway = Gateway::start();
        gateway.terminate();
        let stderr = match reader {
            "full" => Stdio::from(std::fs::File::options().write(true).open("/dev/full").unwrap()),
            _ => Stdio::piped(),
        };
        let mut child = crate::running::binary()
            .args(["serve", "--config"])
            .arg(gateway.config())
            .env("REGISTRAR_LOG", "trace")
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let pipe = child.stderr.take().filter(|_| reader == "stalled");
        let mut ready = String::new();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(child.stdout.take().unwrap()), &mut ready).unwrap();
        let address = ready.trim().rsplit_once('/').unwrap().1.parse().unwrap();
        for n in 0..20 {
            let body = registration("loop", &format!("Unlogged {n}")).to_string();
            let answer = crate::http::call(address, "POST", "/v1/clients", &[crate::http::JSON], body.as_bytes());
            assert_eq!(answer.status, 201, "{reader}");
        }
        // the metric is told every 5 s
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let metrics = crate::http::call(address, "GET", "/metrics", &[], b"");
            let text = String::from_utf8(metrics.body).unwrap();
            let lost = text.lines().find_map(|l| l.strip_prefix("registrar_log_lines_lost_total "));
            if lost.is_some_and(|n| n.parse::<f64>().unwrap() > 0.0) {
                break;
            }
            assert!(Instant::now() < deadline, "{reader}: {lost:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
        let stopped = std::process::Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
        assert!(stopped.success());
        assert_eq!(child.wait().unwrap().code(), Some(0), "{reader}");
        drop(pipe);
    }
}

#[test]
fn a_second_gateway_on_the_same_store_is_refused() {
    let gateway = Gateway::start();
    let second = crate::running::binary().args(["serve", "--config"]).arg(gateway.config()).output().unwrap();
    let told = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1));
    assert!(told.contains("another gateway serves from it"), "{told}");
    let keys = crate::running::binary().args(["keys", "list", "--config"]).arg(gateway.config()).output().unwrap();
    assert!(keys.status.success(), "the command line may look: {}", String::from_utf8_lossy(&keys.stderr));
}
