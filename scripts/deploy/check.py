"""Holds deploy/, compose.yaml and Dockerfile against the programs that read them and against each other.

Called by `scripts/test deploy`, which installs promtool, haproxy, redis-server and requirements.txt. Starts nothing that
outlives it and changes no file. What it cannot do: run a Docker engine, a Kubernetes API server or Grafana.
"""

import json
import re
import socket
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

import compose_spec.compose_spec
import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
KUBERNETES = DEPLOY / "kubernetes"

problems: list[str] = []


def expect(holds: object, problem: str) -> None:
    if not holds:
        problems.append(problem)


def run(*command: object) -> str:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    expect(done.returncode == 0, f"{' '.join(map(str, command))}\n{done.stdout}{done.stderr}")
    return done.stdout


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def seconds(duration: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(s|m|h)", duration).groups()
    return int(number) * {"s": 1, "m": 60, "h": 3600}[unit]


def stop_seconds() -> int:
    """How long a node waits for its tasks after the drain."""
    return int(re.search(r"STOP_MAX: Duration = Duration::from_secs\((\d+)\)", read(ROOT / "src/node.rs")).group(1))


def rules(name: str) -> list[dict]:
    return [rule for group in yaml.safe_load(read(PROMETHEUS / name))["groups"] for rule in group["rules"]]


def prometheus(scratch: Path) -> None:
    for name in ["prometheus.yml", "kubernetes.yml"]:
        # The files lie elsewhere in a container than here.
        config = scratch / name
        text = read(PROMETHEUS / name).replace("/etc/prometheus", str(PROMETHEUS))
        # Debian builds Prometheus without the discovery of Kubernetes: this part is not checked.
        text = text.replace("kubernetes_sd_configs:\n      - role: pod", "static_configs:\n      - targets: [pod]")
        config.write_text(text, encoding="utf-8")
        run("promtool", "check", "config", config)
    run("promtool", "test", "rules", *sorted((PROMETHEUS / "tests").glob("*.yml")))
    tests = "".join(read(path) for path in (PROMETHEUS / "tests").glob("*.yml"))
    manual = read(ROOT / "docs/operating.md")
    for rule in rules("alerts.yml"):
        name = rule["alert"]
        expect(f'alertname="{name}"' in tests, f"no test fires {name}")
        expect(f"\n#### {name}\n" in manual, f"docs/operating.md does not say what {name} means")
        anchor = rule["annotations"]["runbook"]
        expect(anchor == f"docs/operating.md#{name.lower()}", f"{name}: {anchor}")


def grafana(scratch: Path) -> None:
    sources = yaml.safe_load(read(DEPLOY / "grafana/provisioning/datasources/prometheus.yml"))["datasources"]
    known = {source["uid"] for source in sources}
    records = {rule["record"] for rule in rules("objectives.yml")}
    queries = []

    def walk(node: object) -> None:
        if isinstance(node, dict):
            if "expr" in node:
                queries.append(node["expr"])
            if "datasource" in node:
                expect(node["datasource"]["uid"] in known, f"dashboard: no source {node['datasource']}")
            node = list(node.values())
        if isinstance(node, list):
            for child in node:
                walk(child)

    dashboard = json.loads(read(DEPLOY / "grafana/dashboards/tidewire.json"))
    walk(dashboard)
    ids = [panel["id"] for panel in dashboard["panels"]]
    expect(len(ids) == len(set(ids)), "dashboard: two panels have one id")
    expect(queries, "dashboard: no query")
    for query in queries:
        for record in re.findall(r"tidewire:[a-z0-9_:]+", query):
            expect(record in records, f"dashboard: {record} is not recorded")
    plain = [query.replace("$__rate_interval", "1m").replace("$node", ".*") for query in queries]
    written = scratch / "dashboard.yml"
    as_rules = [{"record": f"query:{number}", "expr": query} for number, query in enumerate(plain)]
    written.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": as_rules}]}), encoding="utf-8")
    run("promtool", "check", "rules", written)


def compose() -> None:
    text = read(ROOT / "compose.yaml")
    parsed = compose_spec.compose_spec.PyCompose.from_yaml(text)
    parsed.validate()
    document = yaml.safe_load(text)
    services = document["services"]
    example = read(DEPLOY / "env.example")
    for variable in re.findall(r"\$\{(\w+)", text):
        expect(f"\n{variable}=\n" in example, f"deploy/env.example lacks {variable}")
    for name, service in services.items():
        expect(("build" in service) or ":" in service["image"], f"{name}: an image without a version")
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            found = (ROOT / source).exists() if source.startswith(".") else source in document["volumes"]
            expect(found, f"{name}: no {source}")
        for other in service.get("depends_on", []):
            expect(other in services, f"{name}: no service {other}")
    grace = seconds(services["node"]["stop_grace_period"])
    node = tomllib.loads(read(DEPLOY / "tidewire.toml"))
    expect(grace > drain_seconds(node) + stop_seconds(), f"compose.yaml: {grace} s are too short for a drain")
    expect(node["redis"]["url"] == "redis://redis:6379" and "redis" in services, "compose.yaml: no such Redis")
    balancer = read(DEPLOY / "haproxy/haproxy.cfg")
    ports = {node["listen"].split(":")[1], node["internal_listen"].split(":")[1]}
    expect(set(re.findall(r" node:(\d+)", balancer)) == ports, "haproxy.cfg: not the ports of deploy/tidewire.toml")


def drain_seconds(node: dict) -> int:
    window = seconds(node["drain"]["window"])
    needed = node["limits"]["connections"] / node["drain"]["rate"]
    expect(needed <= window, f"a drain of {needed} s does not fit its window of {window} s")
    alert = next(rule for rule in rules("alerts.yml") if rule["alert"] == "TidewireDrainCannotFinish")
    expect(f"> {window}" in alert["expr"], f"{alert['alert']} is not about the window of {window} s")
    return window


def kubernetes() -> None:
    kustomization = yaml.safe_load(read(KUBERNETES / "kustomization.yaml"))
    files = {path.name for path in KUBERNETES.glob("*.yaml")} - {"kustomization.yaml"}
    expect(set(kustomization["resources"]) == files - {"secret.example.yaml"}, "kustomization.yaml: not all files")
    validate = Path(sys.executable).with_name("kubernetes-validate")
    run(validate, "--strict", "--quiet", *(KUBERNETES / name for name in sorted(files)))
    objects = [item for name in files for item in yaml.safe_load_all(read(KUBERNETES / name))]
    kinds = {(item["kind"], item["metadata"]["name"]): item for item in objects}
    deployment = kinds["Deployment", "tidewire"]["spec"]
    pod, labels = deployment["template"]["spec"], deployment["template"]["metadata"]["labels"]
    container = pod["containers"][0]
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}
    node = tomllib.loads(read(KUBERNETES / "tidewire.toml"))
    expect(node["listen"].endswith(f":{ports['clients']}"), "deployment.yaml: port of clients")
    expect(node["internal_listen"].endswith(f":{ports['internal']}"), "deployment.yaml: internal port")
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"]:
        expect(container[probe]["httpGet"]["port"] in ports, f"deployment.yaml: port of {probe}")
    for selector in [
        deployment["selector"]["matchLabels"],
        kinds["Service", "tidewire"]["spec"]["selector"],
        kinds["Service", "tidewire-internal"]["spec"]["selector"],
        kinds["PodDisruptionBudget", "tidewire"]["spec"]["selector"]["matchLabels"],
        kinds["NetworkPolicy", "tidewire"]["spec"]["podSelector"]["matchLabels"],
    ]:
        expect(selector.items() <= labels.items(), f"nothing has the labels {selector}")
    before = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    grace = pod["terminationGracePeriodSeconds"]
    expect(grace > before + drain_seconds(node) + stop_seconds(), f"{grace} s are too short for a drain")
    autoscaler(kinds["HorizontalPodAutoscaler", "tidewire"]["spec"], node)


def autoscaler(spec: dict, node: dict) -> None:
    adapter = yaml.safe_load(read(PROMETHEUS / "kubernetes-adapter.yml"))["rules"]["custom"]
    offered = {rule["name"]["as"] for rule in adapter}
    wanted = {metric["pods"]["metric"]["name"]: metric["pods"]["target"] for metric in spec["metrics"]}
    expect(set(wanted) == offered, f"the adapter offers {offered}")
    target = int(wanted["tidewire_connections"]["averageValue"])
    fewest = spec["minReplicas"]
    # One node of the fewest is gone, and the others take what it held.
    expect(target * fewest / (fewest - 1) <= node["limits"]["connections"], "no room for the loss of a node")


def image() -> None:
    version = tomllib.loads(read(ROOT / "rust-toolchain.toml"))["toolchain"]["channel"].rsplit(".", 1)[0]
    dockerfile = read(ROOT / "Dockerfile")
    expect(f"FROM rust:{version}-" in dockerfile, f"Dockerfile: not Rust {version}")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def redis(scratch: Path) -> None:
    port = free_port()
    command = ["redis-server", DEPLOY / "redis/redis.conf", "--port", port, "--bind", "127.0.0.1", "--dir", scratch]
    server = subprocess.Popen([str(part) for part in command], stdout=subprocess.DEVNULL)
    try:
        client = ["redis-cli", "-p", str(port)]
        deadline = time.monotonic() + 10
        while subprocess.run([*client, "ping"], capture_output=True).stdout != b"PONG\n":
            if time.monotonic() > deadline or server.poll() is not None:
                problems.append("Redis does not start with deploy/redis/redis.conf")
                return
            time.sleep(0.05)
        for key, value in {
            "maxmemory-policy": "noeviction",
            "appendonly": "yes",
            "min-replicas-to-write": "1",
            "min-replicas-max-lag": "2",
        }.items():
            found = run(*client, "config", "get", key).split("\n")[1]
            expect(found == value, f"redis.conf: {key} is {found}")
    finally:
        server.kill()
        server.wait()


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        prometheus(scratch)
        grafana(scratch)
        run("haproxy", "-c", "-f", DEPLOY / "haproxy/haproxy.cfg")
        compose()
        kubernetes()
        image()
        redis(scratch)
    for problem in problems:
        print(f"deploy: {problem}", file=sys.stderr)
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
