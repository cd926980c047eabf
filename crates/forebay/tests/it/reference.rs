//! Pages that the program prints are the pages in `docs/`.

use crate::program::Program;

async fn is_fresh(page: &str) {
    let path = format!(
        "{}/../../docs/reference/{page}.md",
        env!("CARGO_MANIFEST_DIR")
    );
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    let ran = Program::new().run(&["reference", page]).await;
    assert!(
        kept == ran.ok(),
        "docs/reference/{page}.md is not what the program prints; run \
         `forebay reference {page} > docs/reference/{page}.md`"
    );
}

#[tokio::test]
async fn the_page_of_commands_is_fresh() {
    is_fresh("commands").await;
}

#[tokio::test]
async fn the_page_of_errors_is_fresh() {
    is_fresh("errors").await;
}

#[tokio::test]
async fn the_page_of_configuration_is_fresh() {
    is_fresh("configuration").await;
}
