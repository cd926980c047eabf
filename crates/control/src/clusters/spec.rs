//! What of a cluster's definition has an effect here. The document itself is kept as it came.

use std::collections::{BTreeMap, BTreeSet};

use forebay_types::{Error, Result};
use serde_json::{Map, Value};

use super::runtimes::RuntimeInfo;
use super::secrets::reference;

const SETTINGS_BYTES_MAX: usize = 256 << 10;
const NAME_BYTES_MAX: usize = 255;
const WORKERS_MAX: i64 = 100_000;
const AUTOTERMINATION_MINUTES: std::ops::RangeInclusive<i64> = 10..=10_000;

/// Own key of `spark_conf`: memory of one run on this cluster, such as `2g`.
pub(super) const MEMORY_KEY: &str = "forebay.run.memory";

/// Own key of `spark_conf`: the Spark engine of the cluster's runs, `sail` or `apache`.
pub const ENGINE_KEY: &str = "forebay.engine";

/// As many as Databricks takes.
const INIT_SCRIPTS_MAX: usize = 10;

/// The runtime of clusters whose `spark_version` names none of ours.
pub const DEFAULT_RUNTIME: &str = "python-3.11";

/// A checked definition.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Spec {
    /// Numbers that came as text are numbers here, and nulls are gone; else as the caller wrote it.
    pub(super) settings: Map<String, Value>,
    pub(super) runtime: String,
    /// Zero for never.
    pub(super) autotermination_minutes: i64,
    pub(super) env: BTreeMap<String, String>,
    pub(super) spark_conf: BTreeMap<String, String>,
    pub(super) memory_bytes: Option<u64>,
    /// Paths as the definition has them: `dbfs:/...`, `/Volumes/...`, or of the workspace.
    pub(super) init_scripts: Vec<String>,
}

impl Spec {
    /// Checks a definition.
    ///
    /// # Errors
    /// `INVALID_PARAMETER_VALUE` that names the field, `NOT_IMPLEMENTED` for fields whose silent
    /// loss would change what a run does.
    pub(super) fn parse(mut settings: Map<String, Value>, known: &[RuntimeInfo]) -> Result<Self> {
        settings.retain(|_, value| !value.is_null());
        refuse_unsupported(&settings)?;
        check_references(&settings)?;
        let name = text(&settings, "cluster_name")?.unwrap_or_default();
        if name.len() > NAME_BYTES_MAX {
            return Err(invalid(
                "cluster_name",
                &format!("{} bytes, at most {NAME_BYTES_MAX}", name.len()),
            ));
        }
        let version = text(&settings, "spark_version")?
            .ok_or_else(|| Error::invalid("Missing required field: spark_version"))?;
        let spark_conf = texts(&settings, "spark_conf")?;
        let runtime = runtime_for(
            version,
            spark_conf.get(ENGINE_KEY).map(String::as_str),
            known,
        )?;
        whole(&mut settings, "num_workers", 0..=WORKERS_MAX)?;
        autoscale(&mut settings)?;
        let minutes = whole(&mut settings, "autotermination_minutes", 0..=i64::MAX)?;
        let autotermination_minutes = minutes.unwrap_or(0);
        if autotermination_minutes != 0
            && !AUTOTERMINATION_MINUTES.contains(&autotermination_minutes)
        {
            return Err(invalid(
                "autotermination_minutes",
                "must be 0 (never) or between 10 and 10000",
            ));
        }
        let env = texts(&settings, "spark_env_vars")?;
        if let Some(bad) = env.keys().find(|name| !is_variable_name(name)) {
            return Err(invalid(
                "spark_env_vars",
                &format!("'{bad}' cannot be the name of a variable"),
            ));
        }
        let memory_bytes = spark_conf
            .get(MEMORY_KEY)
            .map(|size| {
                parse_size(size).ok_or_else(|| {
                    invalid(
                        &format!("spark_conf.{MEMORY_KEY}"),
                        "must be a size such as 512m or 2g, at least 64m",
                    )
                })
            })
            .transpose()?;
        let init_scripts = init_scripts(&settings)?;
        let bytes = Value::Object(settings.clone()).to_string().len();
        if bytes > SETTINGS_BYTES_MAX {
            return Err(Error::invalid(format!(
                "The cluster's definition has {bytes} bytes of JSON, at most {SETTINGS_BYTES_MAX} are allowed."
            )));
        }
        Ok(Self {
            settings,
            runtime,
            autotermination_minutes,
            env,
            spark_conf,
            memory_bytes,
            init_scripts,
        })
    }
}

/// References to secrets are well-formed, and stand where programs get their values.
///
/// # Errors
/// `INVALID_PARAMETER_VALUE` that names the field.
pub(crate) fn check_references(settings: &Map<String, Value>) -> Result<()> {
    for field in ["spark_env_vars", "spark_conf"] {
        let values = settings.get(field).and_then(Value::as_object);
        for (name, value) in values.into_iter().flatten() {
            let at = format!("{field}.{name}");
            let text = value.as_str().unwrap_or_default();
            let found = reference(text).map_err(|reason| invalid(&at, &reason))?;
            if found.is_some() && field == "spark_conf" && !name.starts_with("spark.") {
                let reason = "only settings of Spark (spark.*) can be secrets";
                return Err(invalid(&at, reason));
            }
        }
    }
    Ok(())
}

/// Where the scripts lie that come before the program of each run.
fn init_scripts(settings: &Map<String, Value>) -> Result<Vec<String>> {
    let Some(given) = settings.get("init_scripts") else {
        return Ok(Vec::new());
    };
    let given = given
        .as_array()
        .ok_or_else(|| invalid("init_scripts", "must be a list"))?;
    if given.len() > INIT_SCRIPTS_MAX {
        let found = format!("{} of them, at most {INIT_SCRIPTS_MAX}", given.len());
        return Err(invalid("init_scripts", &found));
    }
    let one = |(at, script): (usize, &Value)| {
        let field = format!("init_scripts[{at}]");
        let (kind, place) = match script.as_object().map(|fields| fields.iter().next()) {
            Some(Some((kind, place))) if script.as_object().is_some_and(|f| f.len() == 1) => {
                (kind.as_str(), place)
            }
            _ => {
                return Err(invalid(
                    &field,
                    "must name one place: workspace, volumes or dbfs",
                ));
            }
        };
        if !["workspace", "volumes", "dbfs"].contains(&kind) {
            return Err(Error::not_implemented(format!(
                "An init script in '{kind}'"
            )));
        }
        let path = place.get("destination").and_then(Value::as_str);
        let path = path.filter(|path| !path.is_empty());
        let path =
            path.ok_or_else(|| invalid(&format!("{field}.{kind}.destination"), "is missing"))?;
        let fits = match kind {
            "dbfs" => path.starts_with("dbfs:/"),
            "volumes" => path.starts_with("/Volumes/"),
            _ => path.starts_with('/'),
        };
        if !fits {
            let wanted = match kind {
                "dbfs" => "must begin with dbfs:/",
                "volumes" => "must begin with /Volumes/",
                _ => "must be an absolute path of the workspace",
            };
            return Err(invalid(&format!("{field}.{kind}.destination"), wanted));
        }
        Ok(path.to_owned())
    };
    given.iter().enumerate().map(one).collect()
}

/// The runtime that a definition stands for: that of its `spark_version`, or the one of the same
/// Python that has the engine it asks for.
///
/// # Errors
/// `INVALID_PARAMETER_VALUE` for a version or an engine that is none.
pub fn runtime_for(
    spark_version: &str,
    engine: Option<&str>,
    known: &[RuntimeInfo],
) -> Result<String> {
    let name = runtime_of_version(spark_version, known)?;
    let Some(engine) = engine else {
        return Ok(name);
    };
    let found = known.iter().find(|runtime| runtime.name == name);
    let python = found.map_or("", |runtime| runtime.python.as_str());
    let like = |runtime: &&RuntimeInfo| runtime.python == python && runtime.engine == engine;
    let same = found.filter(like);
    if let Some(runtime) = same.or_else(|| known.iter().find(like)) {
        return Ok(runtime.name.clone());
    }
    let engines: BTreeSet<_> = known
        .iter()
        .map(|runtime| runtime.engine.as_str())
        .collect();
    Err(invalid(
        &format!("spark_conf.{ENGINE_KEY}"),
        &format!(
            "'{}' is no engine of this server ({})",
            engine.chars().take(80).collect::<String>(),
            engines.into_iter().collect::<Vec<_>>().join(", ")
        ),
    ))
}

/// One of ours by its name, one that the configuration gives a version like this, or the default
/// one for every version of the service that clients know, of which only the shape is checked.
fn runtime_of_version(spark_version: &str, known: &[RuntimeInfo]) -> Result<String> {
    let chosen = |runtime: &&RuntimeInfo| {
        let mut patterns = runtime.versions.iter();
        patterns.any(|pattern| is_like(spark_version, pattern))
    };
    if let Some(runtime) = known.iter().find(chosen) {
        return Ok(runtime.name.clone());
    }
    if known.iter().any(|runtime| runtime.name == spark_version) {
        return Ok(spark_version.to_owned());
    }
    let starts_with_number = spark_version
        .strip_prefix("apache-spark-")
        .unwrap_or(spark_version)
        .starts_with(|c: char| c.is_ascii_digit());
    let familiar = (starts_with_number && spark_version.contains("-scala"))
        || spark_version.starts_with("custom:")
        || spark_version.starts_with("auto:");
    if spark_version.len() > NAME_BYTES_MAX || !familiar {
        let names: Vec<_> = known.iter().map(|runtime| runtime.name.as_str()).collect();
        return Err(invalid(
            "spark_version",
            &format!(
                "'{}' is neither a version such as 15.4.x-scala2.12 nor a runtime of this server ({})",
                spark_version.chars().take(80).collect::<String>(),
                names.join(", ")
            ),
        ));
    }
    let default = known
        .iter()
        .find(|runtime| runtime.name == DEFAULT_RUNTIME)
        .or_else(|| known.first());
    Ok(default.map_or_else(
        || DEFAULT_RUNTIME.to_owned(),
        |runtime| runtime.name.clone(),
    ))
}

/// Whether the text is like the pattern, in which `*` stands for anything.
fn is_like(text: &str, pattern: &str) -> bool {
    let Some((start, rest)) = pattern.split_once('*') else {
        return text == pattern;
    };
    let Some(mut left) = text.strip_prefix(start) else {
        return false;
    };
    let parts: Vec<&str> = rest.split('*').collect();
    let (last, middle) = parts.split_last().map_or(("", &[][..]), |(l, m)| (*l, m));
    for part in middle {
        match left.split_once(part) {
            Some((_, after)) => left = after,
            None => return false,
        }
    }
    left.ends_with(last)
}

/// What would be lost in silence is refused by name.
fn refuse_unsupported(settings: &Map<String, Value>) -> Result<()> {
    let present = |field: &str| {
        settings.get(field).is_some_and(|value| match value {
            Value::Array(items) => !items.is_empty(),
            Value::Object(fields) => !fields.is_empty(),
            Value::String(text) => !text.is_empty(),
            _ => true,
        })
    };
    for field in [
        "docker_image",
        "cluster_log_conf",
        "ssh_public_keys",
        "clone_from",
    ] {
        if present(field) {
            return Err(Error::not_implemented(format!("Cluster field '{field}'")));
        }
    }
    for (field, what) in [
        ("instance_pool_id", "Instance pool"),
        ("driver_instance_pool_id", "Instance pool"),
        ("policy_id", "Cluster policy"),
    ] {
        if present(field) {
            let id = settings.get(field).and_then(Value::as_str).unwrap_or("?");
            return Err(Error::invalid(format!(
                "{what} {id} does not exist (field '{field}'); this server has none."
            )));
        }
    }
    Ok(())
}

fn autoscale(settings: &mut Map<String, Value>) -> Result<()> {
    let Some(autoscale) = settings.get_mut("autoscale") else {
        return Ok(());
    };
    let Value::Object(fields) = autoscale else {
        return Err(invalid("autoscale", "must be an object"));
    };
    let min = whole(fields, "min_workers", 0..=WORKERS_MAX)?.unwrap_or(0);
    let max = whole(fields, "max_workers", 0..=WORKERS_MAX)?.unwrap_or(min);
    if max < min {
        return Err(invalid("autoscale", "max_workers is less than min_workers"));
    }
    Ok(())
}

fn invalid(field: &str, reason: &str) -> Error {
    Error::invalid(format!("Invalid value for field '{field}': {reason}."))
}

fn text<'a>(settings: &'a Map<String, Value>, field: &str) -> Result<Option<&'a str>> {
    match settings.get(field) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(invalid(field, "must be text")),
    }
}

/// Reads a whole number, which may have come as text, and leaves it as a number.
fn whole(
    fields: &mut Map<String, Value>,
    field: &str,
    range: std::ops::RangeInclusive<i64>,
) -> Result<Option<i64>> {
    let Some(value) = fields.get_mut(field) else {
        return Ok(None);
    };
    let number = match &*value {
        Value::Number(number) => number.as_i64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    };
    match number.filter(|number| range.contains(number)) {
        Some(number) => {
            *value = number.into();
            Ok(Some(number))
        }
        None => Err(invalid(field, "must be a whole number of a sensible size")),
    }
}

/// A map of texts; numbers and booleans are written out.
fn texts(settings: &Map<String, Value>, field: &str) -> Result<BTreeMap<String, String>> {
    let fields = match settings.get(field) {
        None => return Ok(BTreeMap::new()),
        Some(Value::Object(fields)) => fields,
        Some(_) => return Err(invalid(field, "must be an object of texts")),
    };
    fields
        .iter()
        .map(|(name, value)| {
            let text = match value {
                Value::String(text) if !text.contains('\0') => text.clone(),
                Value::Number(number) => number.to_string(),
                Value::Bool(flag) => flag.to_string(),
                _ => return Err(invalid(&format!("{field}.{name}"), "must be text")),
            };
            Ok((name.clone(), text))
        })
        .collect()
}

fn is_variable_name(name: &str) -> bool {
    let mut chars = name.chars();
    chars
        .next()
        .is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// `512m`, `2g`, `1t`, or bytes; at least 64 MiB, below which no Python program starts.
fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim().to_ascii_lowercase();
    let text = text.strip_suffix('b').unwrap_or(&text);
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit: u64 = match &text[digits.len()..] {
        "" => 1,
        "k" => 1 << 10,
        "m" => 1 << 20,
        "g" => 1 << 30,
        "t" => 1 << 40,
        _ => return None,
    };
    let bytes = digits.parse::<u64>().ok()?.checked_mul(unit)?;
    (bytes >= 64 << 20).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn parse(settings: Value) -> Result<Spec> {
        let Value::Object(settings) = settings else {
            panic!("an object")
        };
        Spec::parse(settings, &[])
    }

    #[test]
    fn unknown_fields_stay_and_numbers_as_text_become_numbers() {
        let spec = parse(json!({
            "spark_version": "7.3.x-scala2.12", "num_workers": "2", "future": {"a": [1]},
            "policy_id": null, "autotermination_minutes": "30",
            "spark_env_vars": {"PYSPARK_PYTHON": "/x", "N": 3},
            "spark_conf": {"forebay.run.memory": "2g"}
        }))
        .unwrap();
        let expected = json!({
            "spark_version": "7.3.x-scala2.12", "num_workers": 2, "future": {"a": [1]},
            "autotermination_minutes": 30,
            "spark_env_vars": {"PYSPARK_PYTHON": "/x", "N": 3},
            "spark_conf": {"forebay.run.memory": "2g"}
        });
        assert_eq!(Value::Object(spec.settings), expected);
        assert_eq!(spec.runtime, DEFAULT_RUNTIME);
        assert_eq!(spec.env["N"], "3");
        assert_eq!(spec.memory_bytes, Some(2 << 30));
    }

    #[test]
    fn errors_name_the_field() {
        let version = "15.4.x-scala2.12";
        for (settings, field) in [
            (json!({}), "spark_version"),
            (json!({"spark_version": "1.0.x"}), "spark_version"),
            (
                json!({"spark_version": version, "num_workers": "many"}),
                "num_workers",
            ),
            (
                json!({"spark_version": version, "num_workers": -1}),
                "num_workers",
            ),
            (
                json!({"spark_version": version, "autotermination_minutes": 5}),
                "autotermination_minutes",
            ),
            (
                json!({"spark_version": version, "autoscale": {"min_workers": 3, "max_workers": 1}}),
                "autoscale",
            ),
            (
                json!({"spark_version": version, "spark_env_vars": {"A=B": "1"}}),
                "spark_env_vars",
            ),
            (
                json!({"spark_version": version, "spark_conf": {"forebay.run.memory": "2 cows"}}),
                MEMORY_KEY,
            ),
            (
                json!({"spark_version": version, "cluster_name": "n".repeat(300)}),
                "cluster_name",
            ),
            (
                json!({"spark_version": version, "policy_id": "P"}),
                "policy_id",
            ),
            (
                json!({"spark_version": version, "spark_env_vars": {"A": "{{secrets/s}}"}}),
                "'spark_env_vars.A'",
            ),
            (
                json!({"spark_version": version, "spark_conf": {"forebay.warm": "{{secrets/s/k}}"}}),
                "'spark_conf.forebay.warm'",
            ),
            (
                json!({"spark_version": version, "init_scripts": [{"dbfs": {}}]}),
                "init_scripts[0].dbfs.destination",
            ),
            (
                json!({"spark_version": version, "init_scripts": [{"s3": {"destination": "s3://b/x"}}]}),
                "init script in 's3'",
            ),
            (
                json!({"spark_version": version, "init_scripts": [{"volumes": {"destination": "/x"}}]}),
                "must begin with /Volumes/",
            ),
        ] {
            let error = parse(settings).unwrap_err();
            assert!(error.message.contains(field), "{field}: {error}");
        }
    }

    #[test]
    fn the_engine_chooses_among_runtimes_of_one_python_and_the_configuration_by_version() {
        let runtime = |name: &str, python: &str, engine: &str, versions: &[&str]| RuntimeInfo {
            name: name.to_owned(),
            python: python.to_owned(),
            engine: engine.to_owned(),
            versions: versions.iter().map(|&pattern| pattern.to_owned()).collect(),
            ..RuntimeInfo::default()
        };
        let known = [
            runtime("python-3.11", "3.11", "sail", &[]),
            runtime("python-3.11-apache", "3.11", "apache", &["9.*", "*-ml-*"]),
            runtime("python-3.12", "3.12", "sail", &[]),
        ];
        let of = |version, engine| runtime_for(version, engine, &known);
        let new = "15.4.x-scala2.12";
        assert_eq!(of(new, None).unwrap(), "python-3.11");
        assert_eq!(of(new, Some("sail")).unwrap(), "python-3.11");
        assert_eq!(of(new, Some("apache")).unwrap(), "python-3.11-apache");
        assert_eq!(of("9.1.x-scala2.12", None).unwrap(), "python-3.11-apache");
        assert_eq!(of("9.1.x-scala2.12", Some("sail")).unwrap(), "python-3.11");
        let learning = "15.4.x-cpu-ml-scala2.12";
        assert_eq!(of(learning, None).unwrap(), "python-3.11-apache");
        let error = of("python-3.12", Some("apache")).unwrap_err();
        assert!(error.message.contains(ENGINE_KEY), "{error}");
        let error = of(new, Some("flink")).unwrap_err();
        assert!(error.message.contains("apache, sail"), "{error}");
    }

    #[test]
    fn a_star_stands_for_anything() {
        for (text, pattern, expected) in [
            ("9.1.x", "9.*", true),
            ("19.1.x", "9.*", false),
            ("a-ml-b", "*-ml-*", true),
            ("a-b", "*-ml-*", false),
            ("abc", "a*b*c", true),
            ("ac", "a*b*c", false),
            ("x", "x", true),
            ("xy", "x", false),
        ] {
            assert_eq!(is_like(text, pattern), expected, "{text} {pattern}");
        }
    }

    #[test]
    fn versions_of_the_service_map_to_the_default_and_our_names_to_themselves() {
        let known = ["python-3.11", "python-3.12"].map(|name| RuntimeInfo {
            name: name.to_owned(),
            ..RuntimeInfo::default()
        });
        let of = |version| runtime_for(version, None, &known);
        for version in [
            "15.4.x-scala2.12",
            "7.3.x-cpu-ml-scala2.12",
            "apache-spark-2.4.x-scala2.11",
            "auto:latest-lts",
        ] {
            assert_eq!(of(version).unwrap(), "python-3.11", "{version}");
        }
        assert_eq!(of("python-3.12").unwrap(), "python-3.12");
        assert_eq!(
            runtime_for("15.4.x-scala2.12", None, &known[1..]).unwrap(),
            "python-3.12"
        );
        assert!(
            of("python-2.7")
                .unwrap_err()
                .message
                .contains("python-3.12")
        );
    }
}
