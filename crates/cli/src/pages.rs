//! Pages of the reference that are printed from the program itself, so that they cannot drift.

use clap::{Command, CommandFactory};
use forebay_config::{ENV_VARS, OPTIONS};
use forebay_types::ErrorCode;
use forebay_wire::error::{help, http_status};

use crate::args::Cli;

/// Every command with its arguments.
pub(crate) fn commands() -> String {
    let mut text = String::from(
        "# Commands\n\n\
         Printed by `forebay reference commands`; a test keeps it fresh. How commands end: \
         [exit codes](exit-codes.md).\n",
    );
    let mut root = Cli::command().term_width(100);
    root.build();
    for command in root.get_subcommands_mut() {
        describe(command, "forebay", &mut text);
    }
    text
}

fn describe(command: &mut Command, above: &str, text: &mut String) {
    if command.is_hide_set() {
        return;
    }
    let name = format!("{above} {}", command.get_name());
    let usage = command.render_help().to_string();
    let lines: Vec<_> = usage.lines().map(str::trim_end).collect();
    let block = format!(
        "\n## {name}\n\n```text\n{}\n```\n",
        lines.join("\n").trim_end()
    );
    text.push_str(&block);
    for sub in command.get_subcommands_mut() {
        describe(sub, &name, text);
    }
}

/// Every option of the configuration file and every environment variable.
pub(crate) fn configuration() -> String {
    let mut text = String::from(
        "# Configuration\n\n\
         Printed by `forebay reference configuration`; a test keeps it fresh.\n\n\
         Defaults, then the file (`forebay.toml` in the current folder, or the one that `--config` names), then \
         environment variables, then flags. An unknown or wrong option stops the start with its line.\n\n\
         ## Options of the file\n\n| Option | Default | |\n|---|---|---|\n",
    );
    for option in OPTIONS {
        let default = if option.default.is_empty() {
            String::new()
        } else {
            format!("`{}`", option.default)
        };
        row(
            &mut text,
            &[&format!("`{}`", option.name), &default, option.about],
        );
    }
    text.push_str("\n## Environment variables\n\n| Variable | |\n|---|---|\n");
    for var in ENV_VARS {
        row(&mut text, &[&format!("`{}`", var.name), var.about]);
    }
    text
}

/// Every error code of the API, by name.
pub(crate) fn errors() -> String {
    let mut text = String::from(
        "# Errors\n\n\
         Printed by `forebay reference errors`; a test keeps it fresh.\n\n\
         An error of the API is `{\"error_code\": ..., \"message\": ...}`. The message names the field, the file or the \
         limit; the code says what kind of thing went wrong. The number is the HTTP status.\n",
    );
    let mut codes: Vec<ErrorCode> = ErrorCode::ALL.to_vec();
    codes.sort_by_key(|code| code.as_str());
    let mut last = "";
    for code in codes {
        if code.as_str() != last {
            text.push_str(&format!("\n## {}\n", code.as_str()));
            last = code.as_str();
        }
        let (meaning, advice) = help(code);
        let status = http_status(code);
        text.push_str(&format!("\n{status}: {meaning} **What to do:** {advice}\n"));
    }
    text
}

fn row(text: &mut String, cells: &[&str]) {
    text.push_str("| ");
    text.push_str(&cells.join(" | "));
    text.push_str(" |\n");
}
