//! The commands that ask a gateway which runs: found as the configuration says, or by `--admin`.

use crate::support::{Consul, Gateway, Origin, consul::free_ports, until};

/// Where its listener for operators is, as `--admin` takes it.
fn admin(gateway: &Gateway) -> String {
    format!("http://{}", gateway.admin)
}

#[tokio::test]
async fn health_is_0_once_the_gateway_is_ready_and_1_before_and_after() {
    let consul = Consul::start().await;
    consul.stop();
    let section = format!("[consul]\naddress = \"{}\"\n", consul.address());
    let mut gateway = Gateway::start_unready(&section, "[http]\ndrain_wait = \"20s\"\n").await;
    let at = admin(&gateway);
    let health = ["health", "--admin", &at];
    let said = gateway.command(&health, &[]).await;
    assert_eq!(said.code, Some(1), "{said:?}");
    assert!(said.err.contains("not ready") && said.err.contains("first topology is not known"), "{said:?}");
    assert_eq!((said.err.lines().count(), said.out.as_str()), (1, ""));

    consul.resume();
    gateway.until_ready().await;
    let said = gateway.command(&health, &[]).await;
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{said:?}");
    assert!(said.out.ends_with("/readyz says 200: ready\n"), "{said:?}");

    gateway.signal("TERM");
    gateway.until_event("draining").await;
    let said = gateway.command(&health, &[]).await;
    assert!(said.code == Some(1) && said.err.contains("draining"), "{said:?}");
    gateway.signal("TERM");
    gateway.ended().await;
    let said = gateway.command(&health, &[]).await;
    assert!(said.code == Some(1) && said.err.contains("no gateway answers at"), "{said:?}");
}

#[tokio::test]
async fn health_finds_the_gateway_by_its_configuration_whatever_else_is_wrong_with_it() {
    let ports = free_ports::<2>();
    for (i, (table, listen)) in [
        ("admin", format!("\"0.0.0.0:{}\"", ports[0])),
        ("admin", format!("\"[::1]:{}\"", ports[0])),
        ("metrics", format!("[\"127.0.0.1:{}\"]", ports[1])),
    ]
    .into_iter()
    .enumerate()
    {
        let other = if table == "metrics" { "[admin]\nlisten = \"127.0.0.1:0\"\n" } else { "" };
        let file = format!("{other}[{table}]\nlisten = {listen}\n");
        let gateway = Gateway::fixed(&file).await;
        let said = gateway.command(&["health"], &[]).await;
        assert_eq!(said.code, Some(0), "{i}: {said:?}");
        // The gateway goes on with what it has read; a healthcheck must not end it.
        gateway.configure(&format!("{file}[http]\nnonsense = 1\n"));
        let said = gateway.command(&["health"], &[]).await;
        assert_eq!(said.code, Some(0), "{i}: {said:?}");
    }
}

#[tokio::test]
async fn health_says_why_it_has_nobody_to_ask() {
    let gateway = Gateway::fixed("[admin]\nlisten = \"127.0.0.1:0\"\n").await;
    for (args, env, want) in [
        (&["health"][..], &[][..], "no `[admin] listen` with a port"),
        (&["health"], &[("LICTOR_ADMIN__LISTEN", "127.0.0.1:1")], "no gateway answers at http://127.0.0.1:1: "),
        (&["health", "--admin", "http://a/b"], &[], "expected the admin listener as `http://HOST:PORT`"),
        (&["health", "--admin", "localhost:1", "--token-file", "none"], &[], "cannot read the token in `none`"),
    ] {
        let said = gateway.command(args, env).await;
        assert!(said.code == Some(1) && said.err.contains(want), "{want}: {said:?}");
    }
}

#[tokio::test]
async fn status_is_a_table_of_services_and_instances() {
    let consul = Consul::start().await;
    let (a, b) = (Origin::start("a").await, Origin::start("b").await);
    consul.register_checked("web", "web-1", a.address).await;
    consul.register_checked("web", "web-2", b.address).await;
    consul.check("web-2", "fail").await;
    let gateway = Gateway::start(&consul, "[admin]\ntoken = \"op3rator\"\n[services.nobody]\n").await;
    gateway.until_status("/api/v1/web/", 200).await;
    until("the failed check", || async { (gateway.get("/api/v1/web/").await.text == "a").then_some(()) }).await;
    let at = admin(&gateway);

    // The token of the configuration is that of the gateway.
    let said = gateway.command(&["status", "-c", "lictor.toml", "--admin", &at], &[]).await;
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{said:?}");
    assert!(said.out.starts_with(&format!("ready: {at}; topology from consul")), "{said:?}");
    let line = |part: &str| {
        let found = said.out.lines().rfind(|line| line.contains(part));
        found.unwrap_or_else(|| panic!("{part}: {said:?}"))
    };
    let cells =
        |line: &str| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect::<Vec<_>>().join("|");
    assert!(cells(line("SERVICE")).starts_with("SERVICE|INSTANCE|ADDRESS|HEALTH"), "{said:?}");
    for service in ["SERVICE|USABLE|REQUESTS/S|ERRORS|IN FLIGHT", "nobody|no route|0.0|-|0", "web|1 of 2|0.0|-|0"] {
        assert!(said.out.lines().any(|line| cells(line).starts_with(service)), "{service}: {said:?}");
    }
    assert!(line("web-1").starts_with("web ") && line("web-1").ends_with("yes"), "{said:?}");
    assert!(line("web-2").contains("critical") && line("web-2").contains("no: it is critical"), "{said:?}");
    assert!(line("nobody").ends_with("no instance"), "{said:?}");
    assert!(!said.out.contains('\u{1b}'), "no colours but on a terminal: {said:?}");

    let said = gateway.command(&["status", "--json", "--admin", &at], &[("LICTOR_ADMIN__TOKEN", "op3rator")]).await;
    let told: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((&told["ready"], &told["source"]), (&true.into(), &"consul".into()));
    let instances = told["services"]["web"]["instances"].as_array().unwrap();
    assert!(instances.iter().any(|one| one["requests"].as_u64() > Some(0) && one["failures"] == 0), "{told}");

    std::fs::write(gateway.file("token"), "wrong\n").unwrap();
    for (args, want) in [
        (&["status", "--admin", &at, "-c", "base.toml"][..], "asks for the token of `[admin]`"),
        (&["status", "--admin", &at, "--token-file", "token"], "asks for the token of `[admin]`"),
        (&["status", "--admin", "127.0.0.1:1"], "no gateway answers at http://127.0.0.1:1: "),
        (&["explain", "GET", "/", "--admin", "127.0.0.1:1"], "no gateway answers at http://127.0.0.1:1: "),
    ] {
        let said = gateway.command(args, &[]).await;
        assert!(said.code == Some(1) && said.err.contains(want) && !said.err.contains("wrong"), "{args:?}: {said:?}");
    }
}

#[tokio::test]
async fn status_says_what_services_answer_a_second_and_how_much_of_it_are_errors() {
    let good = Origin::start("a").await;
    let gateway = Gateway::fixed(&format!(
        "[services.good]\ninstances = [\"{}\"]\n[services.gone]\ninstances = [\"127.0.0.1:1\"]\n[services.idle]\ninstances = [\"{}\"]\n\
         [[routes]]\nservice = \"good\"\nmatch = {{ path = \"/good\" }}\n\
         [[routes]]\nservice = \"good\"\nmatch = {{ path = \"/better\" }}\n\
         [[routes]]\nservice = \"gone\"\nmatch = {{ path = \"/gone\" }}\n",
        good.address, good.address
    ))
    .await;
    let at = admin(&gateway);
    // What was before the command is no traffic of the moment.
    assert_eq!(gateway.get("/gone").await.status, 502);
    let gone = gateway.command(&["status", "--json", "--admin", &at, "--over", "1ms"], &[]).await;
    let gone: serde_json::Value = serde_json::from_str(&gone.out).unwrap();
    let gone = &gone["services"]["gone"];
    assert_eq!((&gone["requests"], &gone["errors"]), (&1.into(), &1.into()), "{gone}");
    assert_eq!((&gone["rate"]["requests_per_second"], &gone["rate"]["error_ratio"]), (&0.0.into(), &().into()));

    // The load goes on until the command has said what it saw.
    let ask = async {
        loop {
            for path in ["/good", "/better", "/gone"] {
                gateway.get(path).await;
            }
        }
    };
    let args = ["status", "--admin", &at, "--over", "2s"];
    let (table, json) = tokio::select! {
        () = ask => unreachable!(),
        said = async {
            let table = gateway.command(&args, &[]).await;
            (table, gateway.command(&["status", "--json", "--admin", &at], &[]).await)
        } => said,
    };
    let told: serde_json::Value = serde_json::from_str(&json.out).unwrap_or_else(|e| panic!("{e}: {json:?}"));
    let rate = |service: &str| told["services"][service]["rate"].clone();
    let number = |service: &str| rate(service)["requests_per_second"].as_f64().unwrap();
    assert!(rate("good")["over_seconds"].as_f64().unwrap() >= 1.0, "{}", rate("good"));
    assert!(number("gone") > 0.0 && number("good") > number("gone"), "{}: {}", rate("good"), rate("gone"));
    assert_eq!((&rate("good")["error_ratio"], &rate("gone")["error_ratio"]), (&0.0.into(), &1.0.into()));
    assert_eq!((number("idle"), &rate("idle")["error_ratio"]), (0.0, &().into()));
    let line = |service: &str| table.out.lines().find(|line| line.starts_with(service)).unwrap_or_default();
    assert!(line("good").contains(" 0.0 %") && line("gone").contains(" 100.0 %"), "{table:?}");
    assert!(line("idle").contains(" 0.0 ") && !line("idle").contains('%'), "{table:?}");

    let said = gateway.command(&["status", "--json", "--admin", &at, "--over", "0s"], &[]).await;
    let told: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert!(told["services"]["good"]["requests"].as_u64() > Some(0) && told["services"]["good"].get("rate").is_none());
    let said = gateway.command(&["status", "--admin", &at, "--over", "0s"], &[]).await;
    assert!(said.out.contains("USABLE") && !said.out.contains("REQUESTS/S"), "{said:?}");
    let said = gateway.command(&["status", "--over", "soon"], &[]).await;
    assert!(said.code == Some(2) && said.err.contains("`soon` is not a duration"), "{said:?}");
}

#[tokio::test]
async fn explain_tells_in_words_what_would_become_of_a_request() {
    let origin = Origin::start("a").await;
    let gateway = Gateway::fixed(&format!(
        "[services.web]\ninstances = [\"{}\"]\n[[routes]]\nname = \"web\"\nservice = \"web\"\n\
         match = {{ path = \"/web/{{*rest}}\", headers = {{ x-beta = \"1\" }} }}\nrewrite = \"/{{rest}}\"\n",
        origin.address
    ))
    .await;
    let at = admin(&gateway);
    let said = gateway.command(&["explain", "GET", "http://h/web/a?b", "-H", "X-Beta: 1", "--admin", &at], &[]).await;
    assert_eq!((said.code, said.err.as_str()), (Some(0), ""), "{said:?}");
    for want in [
        "request   GET /web/a for h\n",
        "route     web (by configuration): /web/{*rest}, rewritten to /{rest}\n",
        "sent as   GET /a?b for h\n",
        "answer    by an instance\n",
        "yes: the most specific of those that take the request",
        &origin.address.to_string(),
    ] {
        assert!(said.out.contains(want), "{want}: {}", said.out);
    }
    let said = gateway.command(&["explain", "GET", "/web/a", "--admin", &at], &[]).await;
    assert!(said.out.contains("answer    404 by the gateway itself: no route serves this path\n"), "{}", said.out);
    assert!(said.out.contains("no: it wants the header `x-beta: 1`"), "{}", said.out);
    let said = gateway.command(&["explain", "GET", "/web/a", "--json", "--admin", &at], &[]).await;
    let told: serde_json::Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(told["answer"]["status"], 404);
    assert_eq!(gateway.command(&["explain", "GET"], &[]).await.code, Some(2));
}

#[tokio::test]
async fn on_a_terminal_tables_fit_and_have_colours_unless_nobody_wants_them() {
    let gateway = Gateway::fixed("[services.a-service-with-a-long-name]\ninstances = [\"10.0.0.7:8002\"]\n").await;
    let script = "import os, pty, sys, fcntl, termios, struct\n\
                  pid, fd = pty.fork()\n\
                  if pid == 0:\n    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 60, 0, 0))\n    os.execv(sys.argv[1], sys.argv[1:])\n\
                  out = b''\n\
                  try:\n    while chunk := os.read(fd, 4096):\n        out += chunk\n\
                  except OSError:\n    pass\n\
                  os.waitpid(pid, 0)\n\
                  sys.stdout.buffer.write(out)\n";
    for (no_color, coloured) in [("", true), ("1", false)] {
        let program = crate::support::program();
        let mut python = tokio::process::Command::new("python3");
        python.args(["-c", script]).arg(program).args(["status", "--admin", &admin(&gateway)]);
        python.env("TERM", "xterm").env_remove("NO_COLOR").current_dir(gateway.file(""));
        if !no_color.is_empty() {
            python.env("NO_COLOR", no_color);
        }
        let output = python.output().await.expect("python3, of which `make setup` sees to it");
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("10.0.0.7:8002") || text.contains("a-service"), "{text}");
        assert_eq!(text.contains("\u{1b}["), coloured, "{text:?}");
        let table = anstream::adapter::strip_str(&text).to_string();
        let widest = table.lines().skip(2).map(|line| line.trim_end().chars().count()).max().unwrap();
        assert!(widest <= 60, "{widest}: {table}");
    }
}

#[tokio::test]
async fn completions_and_man_are_made_of_the_commands() {
    let gateway = Gateway::fixed("").await;
    for shell in ["bash", "zsh", "fish"] {
        let said = gateway.command(&["completions", shell], &[]).await;
        assert!(said.code == Some(0) && said.out.contains("token-file"), "{shell}: {}", said.err);
    }
    assert_eq!(gateway.command(&["completions", "tcl"], &[]).await.code, Some(2));
    let said = gateway.command(&["man"], &[]).await;
    assert_eq!(said.code, Some(0));
    assert!(said.out.contains(".TH lictor 1"), "{}", said.out);
    for command in ["run", "check", "status", "explain", "schema", "health", "completions", "man", "demo"] {
        assert!(said.out.contains(&format!(".SS \"lictor {command}\"")), "{command}: {}", said.out);
    }
}
