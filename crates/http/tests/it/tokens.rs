use forebay_testkit::TestServer;
use serde_json::json;

#[tokio::test]
async fn token_lives_until_its_lifetime_ends() {
    let server = TestServer::start().await;
    let made = server
        .post("/api/2.0/token/create", json!({"lifetime_seconds": 60}))
        .await
        .ok();
    let token = made["token_value"].as_str().unwrap();
    let me = "/api/2.0/preview/scim/v2/Me";
    let answer = server.call(token, "GET", me, json!(null)).await.ok();
    assert_eq!(answer["userName"], "admin");
    server.clock.advance(std::time::Duration::from_secs(61));
    let late = server.call(token, "GET", me, json!(null)).await;
    assert!(late.refused(401, "UNAUTHENTICATED").contains("Invalid"));
}
