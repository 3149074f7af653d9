//! grpcio's client through the gateway to grpcio's server.

use crate::support::{Gateway, Origin, PythonOrigin, clients::python};

async fn before(addresses: &[String]) -> Gateway {
    let route = "[[routes]]\nmatch = { path = \"/test.Calls/{*rest}\" }\nservice = \"calls\"\n";
    Gateway::fixed(&format!(
        "[services.calls]\nprotocol = \"grpc\"\nbalance = \"round_robin\"\ninstances = {addresses:?}\n{route}"
    ))
    .await
}

/// Plays these cases of `grpc_client.py` with one server.
async fn play(cases: &[&str]) {
    let origin = PythonOrigin::start("grpc_origin.py", &["a"]).await;
    let gateway = before(&[origin.address.to_string()]).await;
    for case in cases {
        python("grpc_client.py", &[&gateway.address.port().to_string(), case]).await;
    }
}

#[tokio::test]
async fn grpcio_gets_the_answer_and_the_metadata_of_a_unary_call() {
    play(&["unary", "large"]).await;
}

#[tokio::test]
async fn grpcio_streams_in_either_direction_and_in_both() {
    play(&["server_stream", "client_stream", "bidi"]).await;
}

#[tokio::test]
async fn grpcio_gets_status_message_and_metadata_of_a_call_that_fails() {
    play(&["status", "late_status", "unknown"]).await;
}

#[tokio::test]
async fn a_call_that_grpcio_gives_up_ends_at_the_service_too() {
    play(&["deadline", "cancel"]).await;
}

#[tokio::test]
async fn calls_on_one_connection_of_grpcio_are_balanced_one_by_one() {
    let (a, b) =
        tokio::join!(PythonOrigin::start("grpc_origin.py", &["a"]), PythonOrigin::start("grpc_origin.py", &["b"]));
    let gateway = before(&[a.address.to_string(), b.address.to_string()]).await;
    python("grpc_client.py", &[&gateway.address.port().to_string(), "balance"]).await;
}

#[tokio::test]
async fn grpcio_reads_unavailable_where_no_instance_listens() {
    let gone = Origin::start("gone").await.address.to_string();
    let gateway = before(&[gone]).await;
    python("grpc_client.py", &[&gateway.address.port().to_string(), "unavailable"]).await;
}
