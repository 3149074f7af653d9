//! The commands that ask a gateway which runs: found as the configuration says, or by `--admin`.

use crate::support::{Consul, Gateway, consul::free_ports};

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
async fn completions_and_man_are_made_of_the_commands() {
    let gateway = Gateway::fixed("").await;
    for shell in ["bash", "zsh", "fish"] {
        let said = gateway.command(&["completions", shell], &[]).await;
        assert!(said.code == Some(0) && said.out.contains("token-file"), "{shell}");
    }
    assert_eq!(gateway.command(&["completions", "tcl"], &[]).await.code, Some(2));
    let said = gateway.command(&["man"], &[]).await;
    assert_eq!(said.code, Some(0));
    assert!(said.out.contains(".TH lictor 1"), "{}", said.out);
    for command in ["run", "check", "schema", "health", "completions", "man", "demo"] {
        assert!(said.out.contains(&format!(".SS \"lictor {command}\"")), "{command}: {}", said.out);
    }
}
