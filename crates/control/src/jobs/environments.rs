//! Environments of a job: each dependency is a library of the tasks that name the environment.

use forebay_types::{Error, Result};

use super::spec::{LibrarySpec, Pypi, Spec, TaskSpec};

impl Spec {
    /// What the environment of a task adds to its libraries.
    ///
    /// # Errors
    /// A key that is not among the environments; a line that has no meaning here.
    pub fn environment_libraries(&self, task: &TaskSpec) -> Result<Vec<LibrarySpec>> {
        let Some(key) = &task.environment_key else {
            return Ok(Vec::new());
        };
        let mut known = self.environments.iter();
        let found = known.find(|environment| environment.environment_key == *key);
        let environment = found.ok_or_else(|| {
            Error::invalid(format!(
                "Task '{}' names environment_key '{key}', which is not in 'environments'.",
                task.task_key
            ))
        })?;
        let spec = environment.spec.iter();
        let lines = spec.flat_map(|spec| &spec.dependencies);
        lines.map(|line| library(key, line.trim())).collect()
    }
}

fn library(environment: &str, line: &str) -> Result<LibrarySpec> {
    let nothing = LibrarySpec {
        pypi: None,
        whl: None,
        requirements: None,
        cran: None,
        jar: None,
        egg: None,
        maven: None,
    };
    if let Some(path) = line.strip_prefix("-r ") {
        return Ok(LibrarySpec {
            requirements: Some(path.trim().to_owned()),
            ..nothing
        });
    }
    if line.is_empty() || line.starts_with('-') {
        return Err(Error::not_implemented(format!(
            "The dependency '{line}' of environment '{environment}'"
        )));
    }
    let is_path = line.starts_with('/') || line.starts_with("dbfs:");
    if is_path && line.ends_with(".whl") {
        return Ok(LibrarySpec {
            whl: Some(line.to_owned()),
            ..nothing
        });
    }
    let package = line.to_owned();
    Ok(LibrarySpec {
        pypi: Some(Pypi {
            package,
            repo: None,
        }),
        ..nothing
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_is_a_library() {
        let of = |line: &str| library("e", line).unwrap();
        assert_eq!(of("pandas==2.1").pypi.unwrap().package, "pandas==2.1");
        assert_eq!(
            of("/Shared/a-1-py3-none-any.whl").whl.unwrap(),
            "/Shared/a-1-py3-none-any.whl"
        );
        assert_eq!(
            of("-r /Shared/r.txt").requirements.unwrap(),
            "/Shared/r.txt"
        );
        let refused = library("e", "--index-url https://x").unwrap_err();
        assert!(refused.message.contains("--index-url"), "{refused}");
    }
}
