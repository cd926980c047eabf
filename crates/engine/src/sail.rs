//! What code asks of Spark that the engine Sail does not have, found without running it.
//!
//! A reader of words, not of syntax: it knows comments and texts, and what is inside a text only when
//! the text is SQL. It may overlook something; what it finds should be there.

/// One thing that Sail lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lack {
    /// Of the code that was looked at, from 1.
    pub line: usize,
    /// As a person would write it, such as `.rdd`.
    pub feature: &'static str,
}

/// Attributes by name: `x.rdd`, `spark.sparkContext`.
const ATTRIBUTES: [(&str, &str); 10] = [
    ("rdd", ".rdd"),
    ("sparkContext", ".sparkContext"),
    ("readStream", ".readStream"),
    ("writeStream", ".writeStream"),
    ("_jvm", "._jvm"),
    ("_jsc", "._jsc"),
    ("_jdf", "._jdf"),
    ("approxQuantile", ".approxQuantile"),
    ("addArtifact", ".addArtifact"),
    ("addArtifacts", ".addArtifacts"),
];

/// Modules of `pyspark` below which nothing is there.
const MODULES: [(&str, &str); 3] = [
    ("ml", "pyspark.ml"),
    ("mllib", "pyspark.mllib"),
    ("streaming", "pyspark.streaming"),
];

/// Python code, of a cell or a file.
#[must_use]
pub fn lacks_of_python(source: &str) -> Vec<Lack> {
    let tokens = tokens(source);
    let mut found = Vec::new();
    let own_context = names_context(&tokens);
    for at in 0..tokens.len() {
        let Token { line, kind } = &tokens[at];
        let mut add = |feature| {
            found.push(Lack {
                line: *line,
                feature,
            });
        };
        match kind {
            Kind::Word(word) if is_sign(&tokens, at.wrapping_sub(1), '.') => {
                let known = ATTRIBUTES.iter().find(|(name, _)| name == word);
                if let Some((_, feature)) = known {
                    add(feature);
                }
                if word == "orc" && is_sign(&tokens, at + 1, '(') {
                    add("ORC");
                }
            }
            Kind::Word(word) if word == "pyspark" => {
                if let Some(feature) = module(&tokens, at) {
                    add(feature);
                }
            }
            Kind::Word(word) if word == "sc" && !own_context && is_sign(&tokens, at + 1, '.') => {
                add("sc");
            }
            Kind::Text(text) if is_sign(&tokens, at.wrapping_sub(1), '(') => {
                match word(&tokens, at.wrapping_sub(2)) {
                    Some("sql") => {
                        let more = lacks_of_sql(text);
                        found.extend(more.into_iter().map(|lack| Lack {
                            line: line + lack.line - 1,
                            ..lack
                        }));
                    }
                    Some("format") if text.eq_ignore_ascii_case("orc") => add("ORC"),
                    _ => {}
                }
            }
            _ => {}
        }
    }
    found
}

/// Statements of SQL.
#[must_use]
pub fn lacks_of_sql(source: &str) -> Vec<Lack> {
    let words = sql_words(source);
    let mut found = Vec::new();
    for (at, (line, word)) in words.iter().enumerate() {
        let next = |ahead: usize| words.get(at + ahead).map_or("", |(_, word)| word.as_str());
        let feature = match word.as_str() {
            "PIVOT" if next(1) == "(" => "PIVOT",
            "USING" if next(1) == "ORC" => "ORC",
            "ALTER" if next(1) == "TABLE" => {
                let statement = words[at..].iter().take_while(|(_, word)| word != ";");
                match statement.map(|(_, word)| word).any(|word| word == "RENAME") {
                    true => "ALTER TABLE ... RENAME",
                    false => continue,
                }
            }
            _ => continue,
        };
        found.push(Lack {
            line: *line,
            feature,
        });
    }
    found
}

/// `from pyspark.ml import x`, `import pyspark.ml.feature`, `from pyspark import ml`,
/// `from pyspark import SparkContext`.
fn module(tokens: &[Token], at: usize) -> Option<&'static str> {
    let known = |name: &str| MODULES.iter().find(|(module, _)| *module == name);
    if is_sign(tokens, at + 1, '.') {
        return word(tokens, at + 2)
            .and_then(known)
            .map(|(_, shown)| *shown);
    }
    if word(tokens, at.wrapping_sub(1)) != Some("from") || word(tokens, at + 1) != Some("import") {
        return None;
    }
    let line = tokens.get(at)?.line;
    let imported = tokens.get(at + 2..)?.iter();
    let imported = imported.take_while(|token| token.line == line);
    imported.into_iter().find_map(|token| match &token.kind {
        Kind::Word(name) if name == "SparkContext" => Some("SparkContext"),
        Kind::Word(name) => known(name).map(|(_, shown)| *shown),
        _ => None,
    })
}

/// Whether `sc` is a name of the code's own, such as in `import scanpy as sc`.
fn names_context(tokens: &[Token]) -> bool {
    (0..tokens.len()).any(|at| {
        let is_given = is_sign(tokens, at + 1, '=') && !is_sign(tokens, at + 2, '=');
        let before = word(tokens, at.wrapping_sub(1));
        word(tokens, at) == Some("sc")
            && !is_sign(tokens, at.wrapping_sub(1), '.')
            && (is_given || matches!(before, Some("as" | "for")))
    })
}

#[derive(Debug)]
struct Token {
    line: usize,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Word(String),
    /// What is between the quotes, with escapes as they are written.
    Text(String),
    Sign(char),
}

fn word(tokens: &[Token], at: usize) -> Option<&str> {
    match &tokens.get(at)?.kind {
        Kind::Word(word) => Some(word),
        _ => None,
    }
}

fn is_sign(tokens: &[Token], at: usize, sign: char) -> bool {
    let kind = tokens.get(at).map(|token| &token.kind);
    matches!(kind, Some(Kind::Sign(found)) if *found == sign)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Words, texts and signs of Python, without its comments.
fn tokens(source: &str) -> Vec<Token> {
    let mut found = Vec::new();
    let mut rest = source;
    let mut line = 1;
    while let Some(c) = rest.chars().next() {
        let start = line;
        let length = match c {
            '\n' => {
                line += 1;
                1
            }
            '#' => rest.find('\n').unwrap_or(rest.len()),
            '"' | '\'' => {
                let (text, length) = text(rest, c);
                line += text.matches('\n').count();
                found.push(Token {
                    line: start,
                    kind: Kind::Text(text.to_owned()),
                });
                length
            }
            c if is_word(c) => {
                let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                let word = &rest[..length];
                let quoted = rest[length..].starts_with(['"', '\'']);
                // The letters before a text, as in `f"..."`, are no word.
                if !(quoted && word.len() <= 2) {
                    found.push(Token {
                        line,
                        kind: Kind::Word(word.to_owned()),
                    });
                }
                length
            }
            c if c.is_whitespace() => c.len_utf8(),
            c => {
                found.push(Token {
                    line,
                    kind: Kind::Sign(c),
                });
                c.len_utf8()
            }
        };
        rest = &rest[length..];
    }
    found
}

/// The content of the text that `rest` begins with, and how much of `rest` it takes. One that does not
/// end goes on to the end of its line, or of the code when it has three quotes.
fn text(rest: &str, quote: char) -> (&str, usize) {
    let triple = quote.to_string().repeat(3);
    let (mark, long) = match rest.starts_with(&triple) {
        true => (triple.as_str(), true),
        false => (&triple[..1], false),
    };
    let body = &rest[mark.len()..];
    let mut escaped = false;
    for (at, c) in body.char_indices() {
        if escaped {
            escaped = false;
        } else if c == '\\' {
            escaped = true;
        } else if body[at..].starts_with(mark) {
            return (&body[..at], at + 2 * mark.len());
        } else if c == '\n' && !long {
            return (&body[..at], at + mark.len());
        }
    }
    (body, rest.len())
}

/// Words in capitals, and signs, of SQL; without comments, texts and quoted names.
fn sql_words(source: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    let mut rest = source;
    let mut line = 1;
    while let Some(c) = rest.chars().next() {
        let to = |end: &str| rest.find(end);
        let length = match c {
            _ if rest.starts_with("--") => to("\n").unwrap_or(rest.len()),
            _ if rest.starts_with("/*") => to("*/").map_or(rest.len(), |at| at + 2),
            '\'' | '"' | '`' => rest[1..].find(c).map_or(rest.len(), |at| at + 2),
            c if is_word(c) => {
                let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
                found.push((line, rest[..length].to_uppercase()));
                length
            }
            c => {
                if !c.is_whitespace() {
                    found.push((line, c.to_string()));
                }
                c.len_utf8()
            }
        };
        line += rest[..length].matches('\n').count();
        rest = &rest[length..];
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(found: Vec<Lack>) -> Vec<(usize, &'static str)> {
        found
            .into_iter()
            .map(|one| (one.line, one.feature))
            .collect()
    }

    #[test]
    fn what_sail_lacks_is_found_in_python() {
        let cases: &[(&str, &[(usize, &str)])] = &[
            ("x = df.rdd.map(f)", &[(1, ".rdd")]),
            ("\n\nsc.parallelize([1])", &[(3, "sc")]),
            (
                "spark.sparkContext.setLogLevel('WARN')",
                &[(1, ".sparkContext")],
            ),
            (
                "from pyspark.ml.recommendation import ALS",
                &[(1, "pyspark.ml")],
            ),
            ("import pyspark.mllib.stat as s", &[(1, "pyspark.mllib")]),
            ("from pyspark import SparkContext", &[(1, "SparkContext")]),
            ("from pyspark import ml", &[(1, "pyspark.ml")]),
            (
                "a = (df\n  .writeStream\n  .start())",
                &[(2, ".writeStream")],
            ),
            ("spark.readStream.table('t')", &[(1, ".readStream")]),
            ("spark._jvm.java", &[(1, "._jvm")]),
            (
                "df.approxQuantile('a', [0.5], 0)",
                &[(1, ".approxQuantile")],
            ),
            (
                "df.write.orc('/x')\ndf.write.format('orc')",
                &[(1, "ORC"), (2, "ORC")],
            ),
            (
                "spark.sql(\"\"\"SELECT *\n  FROM t PIVOT (sum(a) FOR b IN (1))\"\"\")",
                &[(2, "PIVOT")],
            ),
            (
                "sql('ALTER TABLE a RENAME TO b')",
                &[(1, "ALTER TABLE ... RENAME")],
            ),
            (
                "spark.sql(f\"SELECT * FROM {t} PIVOT (x)\")",
                &[(1, "PIVOT")],
            ),
        ];
        for (source, expected) in cases {
            assert_eq!(shown(lacks_of_python(source)), *expected, "{source}");
        }
    }

    #[test]
    fn what_only_looks_like_it_is_no_alarm() {
        let quiet = [
            "# df.rdd is slow\nx = 1",
            "print('use df.rdd or sc.parallelize')",
            "\"\"\"spark.readStream\nsc.textFile\n\"\"\"",
            "import scanpy as sc\nsc.pp.normalize_total(a)",
            "sc = make()\nsc.run()",
            "x.sc.y",
            "rdd = 1\nrdd + 1",
            "disc.play()",
            "from pyspark.sql import functions as F",
            "import mypyspark.ml",
            "pandas_df.pivot(index='a')",
            "print('PIVOT (')",
            "log('ALTER TABLE a RENAME TO b')",
            "spark.sql('SELECT pivot FROM t')",
            "spark.sql(\"SELECT 'PIVOT (' FROM t -- PIVOT (\")",
            "text = 'it\\'s df.rdd'",
            "s = 'open\nx = 2",
        ];
        for source in quiet {
            assert_eq!(shown(lacks_of_python(source)), [], "{source}");
        }
    }

    #[test]
    fn what_sail_lacks_is_found_in_sql() {
        let cases: &[(&str, &[(usize, &str)])] = &[
            (
                "select *\nfrom t pivot(sum(a) for b in (1))",
                &[(2, "PIVOT")],
            ),
            ("CREATE TABLE t (a INT) USING orc", &[(1, "ORC")]),
            (
                "alter table a\nrename to b",
                &[(1, "ALTER TABLE ... RENAME")],
            ),
            ("ALTER TABLE a ADD COLUMN b INT; SELECT rename FROM t", &[]),
            ("SELECT `PIVOT (` /* PIVOT ( */ FROM t -- PIVOT (", &[]),
        ];
        for (source, expected) in cases {
            assert_eq!(shown(lacks_of_sql(source)), *expected, "{source}");
        }
    }
}
