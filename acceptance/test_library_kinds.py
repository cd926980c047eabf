"""Libraries of tasks by Maven coordinates, and eggs."""

import io

import pytest
from databricks.sdk.service import compute
from databricks.sdk.service.jobs import NotebookTask
from test_jar import built, jar_task  # noqa: F401 - a fixture
from test_spark import imported, submitted, succeeded

from harness.api import cells, new_cluster, refused
from harness.archive import archive

pytestmark = pytest.mark.timeout(900)

POM = """<project><modelVersion>4.0.0</modelVersion><groupId>org.example</groupId><artifactId>{}</artifactId><version>{}</version>
<dependencies>{}</dependencies></project>"""
NEEDS = "<dependency><groupId>org.example</groupId><artifactId>{}</artifactId><version>{}</version></dependency>"


@pytest.fixture
def repository(w, built, dbfs_home):  # noqa: F811
    """A folder laid out like a Maven repository: org.example:main:1.0, which needs org.example:helper:2.0."""
    main, helper = built
    for jar, name, version, needs in [(main, "main", "1.0", NEEDS.format("helper", "2.0")), (helper, "helper", "2.0", "")]:
        folder = f"{dbfs_home}/org/example/{name}/{version}"
        w.dbfs.mkdirs(folder)
        for ending, content in [("pom", POM.format(name, version, needs).encode()), ("jar", jar.read_bytes())]:
            w.dbfs.upload(f"{folder}/{name}-{version}.{ending}", io.BytesIO(content))
    return dbfs_home


def maven(coordinates, repo=None, exclusions=None):
    return [compute.Library(maven=compute.MavenLibrary(coordinates=coordinates, repo=repo, exclusions=exclusions))]


def test_coordinates_bring_what_they_need_and_the_next_run_needs_no_repository(w, repository):
    found = maven("org.example:main:1.0", f"dbfs:{repository}")
    _, output = succeeded(w, spark_jar_task=jar_task("first"), libraries=found)
    assert "args first helper second jar" in output.logs
    w.dbfs.delete(repository, recursive=True)
    _, output = succeeded(w, spark_jar_task=jar_task("again"), libraries=found)
    assert "args again helper second jar" in output.logs
    # Another set is asked for anew, and what cannot be found is named.
    for wrong in [maven("org.example:main:1.1", f"dbfs:{repository}"), maven("org.example:main:1.0", f"dbfs:{repository}", ["a:b"])]:
        run, output = submitted(w, spark_jar_task=jar_task(), libraries=wrong)
        assert run.state.result_state.value == "FAILED"
        coordinates = wrong[0].maven.coordinates
        assert f"cannot resolve {coordinates} from file:///dbfs{repository}" in output.error, output.error
        assert f"{coordinates.replace(':', '#', 1).replace(':', ';')}: not found" in output.error, output.error


def test_what_is_excluded_does_not_come(w, repository):
    found = maven("org.example:main:1.0", f"dbfs:{repository}", ["org.example:helper"])
    run, output = submitted(w, spark_jar_task=jar_task(), libraries=found)
    assert run.state.result_state.value == "FAILED" and "org.example.Helper" in output.error, output.error


def test_a_notebook_has_a_library_of_maven_central_on_apache_only(w, api, home, cluster_id):
    cell = "dbutils.notebook.exit(spark._jvm.org.apache.commons.csv.CSVFormat.TDF.getQuoteCharacter())"
    task = NotebookTask(notebook_path=imported(w, f"{home}/csv", cells(cell)))
    found = maven("org.apache.commons:commons-csv:1.11.0")
    apache = new_cluster(api, spark_conf={"forebay.engine": "apache"})
    _, output = succeeded(w, existing_cluster_id=apache, notebook_task=task, libraries=found)
    assert output.notebook_output.result == '"'
    run, output = submitted(w, existing_cluster_id=cluster_id, notebook_task=task, libraries=found)
    assert run.state.result_state.value == "FAILED"
    assert "commons-csv" in output.error and "forebay.engine" in output.error, output.error


@pytest.mark.parametrize(
    "coordinates", ["commons-csv", "a:b", "a:b:1:2", "a:b:1.+", "a:b:[1,2)", "a:b:latest.release", "a:b:1-SNAPSHOT", "a:../b:1"]
)
def test_coordinates_are_exact(api, coordinates):
    task = {"task_key": "t", "spark_jar_task": {"main_class_name": "x"}, "libraries": [{"maven": {"coordinates": coordinates}}]}
    message = refused(api.call("POST", "/api/2.1/jobs/create", json={"tasks": [task]}), 400, "INVALID_PARAMETER_VALUE")
    assert "libraries.maven.coordinates" in message and coordinates in message and "'t'" in message
    task["libraries"] = [{"maven": {"coordinates": "a:b:1", "exclusions": ["c"]}}]
    message = refused(api.call("POST", "/api/2.1/jobs/create", json={"tasks": [task]}), 400, "INVALID_PARAMETER_VALUE")
    assert "libraries.maven.exclusions" in message


def egg(**files):
    return io.BytesIO(archive(files))


def test_an_egg_is_installed_with_what_it_needs(w, home, dbfs_home, cluster_id):
    files = {
        "greeting/__init__.py": "from .words import WORD",
        "greeting/words.py": "WORD = 'hello'",
        "EGG-INFO/PKG-INFO": "Metadata-Version: 1.0\nName: greeting\nVersion: 1.2\n",
        "EGG-INFO/requires.txt": "six\n\n[extra]\nno-such-package-of-ours\n",
    }
    w.dbfs.upload(f"{dbfs_home}/greeting-1.2-py3.egg", egg(**files))
    source = cells(
        "import greeting, six\nfrom importlib.metadata import version",
        "dbutils.notebook.exit(f'{greeting.WORD} {version(\"greeting\")}')",
    )
    task = NotebookTask(notebook_path=imported(w, f"{home}/egg", source))
    libraries = [compute.Library(egg=f"dbfs:{dbfs_home}/greeting-1.2-py3.egg")]
    _, output = succeeded(w, existing_cluster_id=cluster_id, notebook_task=task, libraries=libraries)
    assert output.notebook_output.result == "hello 1.2"


def test_what_is_no_egg_is_named(w, home, dbfs_home, cluster_id):
    w.dbfs.upload(f"{dbfs_home}/text.egg", io.BytesIO(b"not an egg"))
    w.dbfs.upload(f"{dbfs_home}/empty.egg", egg(**{"a.py": ""}))
    task = NotebookTask(notebook_path=imported(w, f"{home}/no_egg", cells("print(1)")))
    for name, words in [("text", "no zip archive"), ("empty", "EGG-INFO"), ("none", "none.egg")]:
        libraries = [compute.Library(egg=f"dbfs:{dbfs_home}/{name}.egg")]
        run, output = submitted(w, existing_cluster_id=cluster_id, notebook_task=task, libraries=libraries)
        assert run.state.result_state.value == "FAILED"
        assert f"{name}.egg" in output.error and words in output.error, output.error
