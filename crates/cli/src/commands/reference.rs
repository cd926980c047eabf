use clap::{Args, ValueEnum};

use crate::failure::Failure;
use crate::output::{Format, Out};
use crate::pages;

/// Arguments of `forebay reference`.
#[derive(Debug, Args)]
pub struct ReferenceArgs {
    #[arg(value_enum)]
    page: Page,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Page {
    Commands,
    Configuration,
    Errors,
}

pub(crate) fn run(args: &ReferenceArgs) -> Result<(), Failure> {
    let text = match args.page {
        Page::Commands => pages::commands(),
        Page::Configuration => pages::configuration(),
        Page::Errors => pages::errors(),
    };
    Out::new(Format::Text).bytes(text.as_bytes())
}
