//! What is not gRPC is told so.

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tonic::codegen::http::{Request, Response};

use crate::harness::Gateway;

async fn ask(gateway: &Gateway, http2: bool, content_type: &str) -> Response<Bytes> {
    let client = Client::builder(TokioExecutor::new())
        .http2_only(http2)
        .build_http::<Full<Bytes>>();
    let url = format!(
        "http://{}/clerkcast.v1.EventService/GetLogInfo",
        gateway.grpc
    );
    let request = Request::post(url)
        .header("content-type", content_type)
        .body(Full::from("{}"))
        .expect("a request");
    let response = client.request(request).await.expect("an answer");
    let (head, body) = response.into_parts();
    let body = body.collect().await.expect("whole").to_bytes();
    Response::from_parts(head, body)
}

#[tokio::test]
async fn the_wrong_protocol_is_told_in_words() {
    let gateway = Gateway::start();
    for (http2, content_type) in [
        (false, "application/json"),
        (false, "application/grpc"),
        (false, ""),
        (true, "application/json"),
        (true, "application/grpc-web+proto"),
        (true, "application/grpc-web-text"),
        (true, "text/plain"),
    ] {
        let response = ask(&gateway, http2, content_type).await;
        assert_eq!(response.status(), 415, "{content_type}");
        let text = String::from_utf8(response.body().to_vec()).expect("UTF-8");
        assert!(text.contains("gRPC over HTTP/2"), "{text}");
    }
    // And gRPC is not.
    for content_type in ["application/grpc", "application/grpc+proto"] {
        let response = ask(&gateway, true, content_type).await;
        assert_eq!(response.status(), 200, "{content_type}");
    }
}
