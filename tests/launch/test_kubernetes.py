"""What is given to Kubernetes, by its own schemas; and that the flags in it are those of the programs."""

from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from launch import program, segment, train

FOLDER = Path(__file__).parents[2] / "launch" / "kubernetes"
VERSION = "1.33"


def documents():
    return {path.name: yaml.safe_load(path.read_text()) for path in sorted(FOLDER.glob("*.yaml"))}


def jobs_of(document):
    """The Jobs that a document is, or that a JobSet makes of its templates."""
    if document["kind"] == "Job":
        return [document]
    return [{"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": job["name"]}, "spec": job["template"]["spec"]}
            for job in document["spec"]["replicatedJobs"]]


@pytest.mark.parametrize("name", documents())
def test_jobs_are_valid_and_their_commands_too(name, monkeypatch, tmp_path):
    for job in jobs_of(documents()[name]):
        kubernetes_validate.validate(job, VERSION, strict=True)
        for container in job["spec"]["template"]["spec"]["containers"]:
            variables = {each["name"]: each["value"] for each in container.get("env", ())} | {"JOB_COMPLETION_INDEX": "1"}
            command = " ".join(container["command"]).replace("bash -c exec ", "")
            for variable, value in variables.items():
                command = command.replace(f"${variable}", value)
            assert "$" not in command
            python, dash, module, *flags = command.split()
            assert (python, dash) == ("python", "-m")
            known = {"launch.train": train.PROGRAM, "launch.segment": segment.PROGRAM}[module]
            monkeypatch.chdir(Path(__file__).parents[2])
            program.parse(known, [module, *flags])


def test_a_job_of_shares_has_as_many_as_its_command_says():
    document = documents()["segment.yaml"]
    container = document["spec"]["template"]["spec"]["containers"][0]
    assert {"name": "PARTS", "value": str(document["spec"]["completions"])} in container["env"]


@pytest.mark.parametrize("name", [name for name in documents() if name.startswith("train")])
def test_a_training_has_as_many_processes_as_pods_and_one_that_dies_ends_the_others(name):
    document = documents()[name]
    assert document["apiVersion"] == "jobset.x-k8s.io/v1alpha2"
    assert document["spec"]["failurePolicy"]["maxRestarts"] > 0
    (job,) = jobs_of(document)
    assert job["spec"]["completionMode"] == "Indexed"
    assert job["spec"]["parallelism"] == job["spec"]["completions"]
    assert job["spec"]["backoffLimit"] == 0
    container = job["spec"]["template"]["spec"]["containers"][0]
    for each in container.get("env", ()):
        if each["name"] == "PROCESSES":
            assert each["value"] == str(job["spec"]["completions"])


def test_the_two_halves_of_a_segmentation_have_the_same_flags():
    commands = [" ".join(documents()[name]["spec"]["template"]["spec"]["containers"][0]["command"]).replace("bash -c exec ", "")
                for name in ("segment.yaml", "write.yaml")]
    assert commands[0].rpartition(" --part=")[0] == commands[1]
