use forebay_notebook::{CommandError, FsCommand, RunCommand, split_words};
use proptest::prelude::*;

fn run(source: &str) -> (String, Vec<(String, String)>) {
    let command = RunCommand::parse(source).unwrap();
    (command.path, command.params)
}

#[test]
fn run_takes_paths_and_parameters_as_people_write_them() {
    let params = |pairs: &[(&str, &str)]| {
        let pairs = pairs.iter();
        pairs
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect::<Vec<_>>()
    };
    let cases = [
        ("./../utils/x", "./../utils/x", params(&[])),
        ("%run   ./a  ", "./a", params(&[])),
        ("%run \"./two words\"", "./two words", params(&[])),
        (
            "/Users/me/two words $a=\"1\"",
            "/Users/me/two words",
            params(&[("a", "1")]),
        ),
        (
            "%run ./x $a=\"1\" $b='two words'   $c = 3",
            "./x",
            params(&[("a", "1"), ("b", "two words"), ("c", "3")]),
        ),
        (
            r#"./x $a="say \"hi\" c:\dir""#,
            "./x",
            params(&[("a", r#"say "hi" c:\dir"#)]),
        ),
        ("./x$1 $a=\"\" # why", "./x$1", params(&[("a", "")])),
        ("./runner", "./runner", params(&[])),
        ("%runner", "%runner", params(&[])),
    ];
    for (source, path, params) in cases {
        assert_eq!(run(source), (path.to_owned(), params), "{source}");
    }
}

#[test]
fn run_says_what_is_wrong() {
    assert_eq!(RunCommand::parse("%run  "), Err(CommandError::NoPath));
    assert_eq!(RunCommand::parse("$a=\"1\""), Err(CommandError::NoPath));
    assert_eq!(
        RunCommand::parse("./x $a=\"1"),
        Err(CommandError::OpenQuote { column: 8 })
    );
    for source in ["./x $a", "./x $=1", "\"./x\" y=1"] {
        let error = RunCommand::parse(source).unwrap_err();
        assert!(
            matches!(error, CommandError::NotAParameter { .. }),
            "{source}"
        );
    }
}

#[test]
fn fs_commands_are_split_as_a_shell_does() {
    let command = FsCommand::parse("%fs cp -r '/a b/c' \"dbfs:/x \\\" y\" z\\ z").unwrap();
    assert_eq!(command.name, "cp");
    assert_eq!(command.args, ["-r", "/a b/c", "dbfs:/x \" y", "z z"]);
    assert_eq!(FsCommand::parse("ls").unwrap().args, Vec::<String>::new());
    assert_eq!(FsCommand::parse("  "), Err(CommandError::NoCommand));
    assert_eq!(
        FsCommand::parse("ls /a\nls /b"),
        Err(CommandError::ManyLines)
    );
    assert_eq!(
        FsCommand::parse("ls 'a"),
        Err(CommandError::OpenQuote { column: 4 })
    );
    assert_eq!(split_words("a'b'\"c\" ''").unwrap(), ["abc", ""]);
}

proptest! {
    #[test]
    fn no_text_makes_a_parser_panic(text in "[a-z$=\"'\\\\# \n%ü]{0,24}") {
        let parsed = (RunCommand::parse(&text), FsCommand::parse(&text), split_words(&text));
        if let Ok(command) = parsed.0 {
            prop_assert!(!command.path.is_empty());
        }
    }
}
