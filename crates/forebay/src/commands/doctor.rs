//! `forebay doctor`: what is wrong with a data folder or this machine, and what to do about it.

mod data;
mod machine;
mod runner;

use forebay_cli::{Check, Checks, DoctorArgs, Outcome};
use forebay_config::Config;

pub(crate) async fn run(args: &DoctorArgs) -> Outcome {
    let mut checks = Checks::default();
    let config = match args.server.config() {
        Ok(config) => config,
        Err(error) => {
            let found = error.to_string().trim_end().to_owned();
            checks.0.push(Check::fail(
                "configuration",
                found,
                "correct the file or the variable; the other checks use the defaults",
            ));
            Config::default()
        }
    };
    match config.validate() {
        Ok(()) if checks.0.is_empty() => checks.0.push(Check::ok("configuration", "valid")),
        Ok(()) => {}
        Err(error) => checks.0.push(Check::fail(
            "configuration",
            error.to_string(),
            "correct these fields; docs/reference/configuration.md lists them all",
        )),
    }
    data::check(&config, &mut checks);
    checks.0.push(runner::check(&config.data).await);
    machine::check(&config, &mut checks).await;
    checks.report(args.out())
}
