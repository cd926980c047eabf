//! What `tasks.KEY.output` has: the table that a SQL task came to.

use std::sync::Arc;

use serde_json::{Map, Value};

use crate::references::shown;

/// How much of a table `output.rows` carries, as JSON: rows, and bytes.
const ROWS_MAX: usize = 1000;
const ROWS_BYTES_MAX: usize = 48 << 10;

/// The result of a task, as tasks after it read it.
#[derive(Debug, Clone, PartialEq, Default)]
pub enum TaskOutput {
    /// It is no SQL task.
    #[default]
    None,
    /// It is one, and why it has no table.
    Missing(String),
    /// Shared by all that read it.
    Table(Arc<Table>),
}

/// A table, and whether it has more rows than these.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    pub columns: Vec<String>,
    pub rows: Vec<Vec<Value>>,
    pub more: bool,
}

impl TaskOutput {
    /// `rows`, or `first_row.COLUMN`.
    pub(crate) fn value(&self, key: &str, parts: &[String]) -> Result<String, String> {
        let asked = match parts {
            [field] if field == "rows" => None,
            [field, column @ ..] if field == "first_row" && !column.is_empty() => {
                Some(column.join("."))
            }
            [field] if field == "alert_state" => {
                return Err("only an alert has a state, and there are no alerts here".to_owned());
            }
            _ => return Err("an output has rows and first_row.COLUMN".to_owned()),
        };
        let table = match self {
            Self::None => return Err(format!("only a SQL task has an output; '{key}' is none")),
            Self::Missing(why) => return Err(format!("task '{key}' {why}")),
            Self::Table(table) => table,
        };
        match asked {
            None => table.rows(key),
            Some(column) => table.first(key, &column),
        }
    }
}

impl Table {
    /// All rows, as a JSON array of objects.
    fn rows(&self, key: &str) -> Result<String, String> {
        let names = self.columns.iter().enumerate();
        for (at, name) in names {
            self.only_one(key, name, at)?;
        }
        if self.more || self.rows.len() > ROWS_MAX {
            return Err(format!(
                "the table of task '{key}' has more than {ROWS_MAX} rows, the most it can carry"
            ));
        }
        let object = |row: &Vec<Value>| -> Map<String, Value> {
            self.columns.iter().cloned().zip(row.clone()).collect()
        };
        let rows: Vec<_> = self.rows.iter().map(object).map(Value::Object).collect();
        let text = Value::Array(rows).to_string();
        if text.len() > ROWS_BYTES_MAX {
            return Err(format!(
                "the rows of task '{key}' take {} bytes as JSON, at most {ROWS_BYTES_MAX}",
                text.len()
            ));
        }
        Ok(text)
    }

    fn first(&self, key: &str, column: &str) -> Result<String, String> {
        let at = self.columns.iter().position(|name| name == column);
        let at = at.ok_or_else(|| {
            let known = self.columns.join(", ");
            format!("the table of task '{key}' has no column '{column}'; it has {known}")
        })?;
        self.only_one(key, column, at)?;
        let row = self.rows.first();
        let row = row.ok_or_else(|| format!("the table of task '{key}' has no rows"))?;
        Ok(row.get(at).map(shown).unwrap_or_default())
    }

    /// Of two columns of one name, neither can be told by it.
    fn only_one(&self, key: &str, column: &str, at: usize) -> Result<(), String> {
        let mut others = self.columns.iter().skip(at + 1);
        if others.any(|name| name == column) {
            return Err(format!(
                "the table of task '{key}' has two columns '{column}': name them apart with AS"
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn value(output: &TaskOutput, path: &[&str]) -> Result<String, String> {
        let parts: Vec<String> = path.iter().map(|part| (*part).to_owned()).collect();
        output.value("q", &parts)
    }

    fn table(columns: &[&str], rows: Vec<Vec<Value>>) -> Table {
        Table {
            columns: columns.iter().map(|name| (*name).to_owned()).collect(),
            rows,
            more: false,
        }
    }

    fn shared(table: Table) -> TaskOutput {
        TaskOutput::Table(Arc::new(table))
    }

    #[test]
    fn rows_are_objects_and_the_first_row_has_texts() {
        let rows = vec![
            vec![json!("nl"), json!(1), json!(null)],
            vec![json!("be"), json!(2), json!([3])],
        ];
        let output = shared(table(&["code", "a.b", "z"], rows));
        let all = r#"[{"code":"nl","a.b":1,"z":null},{"code":"be","a.b":2,"z":[3]}]"#;
        assert_eq!(value(&output, &["rows"]).as_deref(), Ok(all));
        for (column, expected) in [("code", "nl"), ("a.b", "1"), ("z", "null")] {
            let seen = value(&output, &["first_row", column]);
            assert_eq!(seen.as_deref(), Ok(expected));
        }
        let empty = shared(table(&["n"], Vec::new()));
        assert_eq!(value(&empty, &["rows"]).as_deref(), Ok("[]"));
    }

    #[test]
    fn what_has_no_value_says_why() {
        let one = || shared(table(&["n", "m"], vec![vec![json!(1), json!(2)]]));
        let empty = shared(table(&["n"], Vec::new()));
        let twice = || shared(table(&["n", "n"], vec![vec![json!(1), json!(2)]]));
        let missing = TaskOutput::Missing("showed no table".to_owned());
        for (output, path, reason) in [
            (one(), vec!["first_row", "x"], "no column 'x'; it has n, m"),
            (one(), vec!["first_row"], "rows and first_row.COLUMN"),
            (one(), vec!["rows", "n"], "rows and first_row.COLUMN"),
            (one(), vec![], "rows and first_row.COLUMN"),
            (one(), vec!["alert_state"], "there are no alerts here"),
            (empty, vec!["first_row", "n"], "has no rows"),
            (twice(), vec!["first_row", "n"], "two columns 'n'"),
            (twice(), vec!["rows"], "two columns 'n'"),
            (missing, vec!["rows"], "task 'q' showed no table"),
            (TaskOutput::None, vec!["rows"], "only a SQL task"),
        ] {
            let error = value(&output, &path).unwrap_err();
            assert!(error.contains(reason), "{path:?}: {error}");
        }
    }

    #[test]
    fn too_many_rows_are_none_and_the_first_is_still_there() {
        let mut long = table(&["n"], vec![vec![json!(0)]; ROWS_MAX]);
        assert!(value(&shared(long.clone()), &["rows"]).is_ok());
        long.more = true;
        let wide = table(&["n"], vec![vec![json!("x".repeat(ROWS_BYTES_MAX))]]);
        for (table, reason) in [(long, "more than 1000 rows"), (wide, "at most 49152")] {
            let output = shared(table);
            let error = value(&output, &["rows"]).unwrap_err();
            assert!(error.contains(reason), "{error}");
            assert!(value(&output, &["first_row", "n"]).is_ok());
        }
    }
}
