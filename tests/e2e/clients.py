"""Drives a cluster with docker-py, as a program of a user would. Prints one JSON object of what it saw; raises on what fails.

Usage: clients.py SOCKET ADDRESS IMAGE IMAGE2
"""

import json
import sys
import threading
import time

import docker
from docker.types import EndpointSpec, Mount, Resources, RestartPolicy, ServiceMode, UpdateConfig

socket, address, image, image2 = sys.argv[1:]
client = docker.DockerClient(base_url=f"unix://{socket}", version="auto", timeout=60)
seen = {"version": docker.__version__, "api": client.api._version}


def eventually(what, probe, seconds=60):
    """Asks until the answer is a true one."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        answer = probe()
        if answer:
            return answer
        time.sleep(0.1)
    raise TimeoutError(what)


# The cluster.
client.swarm.init(advertise_addr=address, listen_addr="0.0.0.0:2377", task_history_retention_limit=3)
client.swarm.reload()
seen["swarm"] = client.swarm.attrs["Spec"]["Orchestration"]["TaskHistoryRetentionLimit"]
client.swarm.update(rotate_worker_token=True, task_history_retention_limit=2)
client.swarm.reload()
seen["swarmUpdated"] = client.swarm.attrs["Spec"]["Orchestration"]["TaskHistoryRetentionLimit"]
node = client.nodes.list(filters={"role": "manager"})[0]
spec = node.attrs["Spec"]
spec["Labels"] = {"zone": "a"}
node.update(spec)
seen["node"] = client.nodes.get(node.id).attrs["Spec"]["Labels"]

# Events are read beside everything else; `since` finds what came before the stream stood.
started = int(time.time())
events = []


def listen():
    for event in client.events(decode=True, since=started, filters={"type": ["service", "network"], "scope": ["swarm"]}):
        events.append([event["Type"], event["Action"], event["Actor"]["Attributes"].get("name")])


threading.Thread(target=listen, daemon=True).start()

# Networks and services.
network = client.networks.create("back", driver="overlay", labels={"a": "b"}, check_duplicate=True)
seen["networks"] = [each.name for each in client.networks.list(names=["back"])]
try:
    client.networks.create("back", driver="overlay", check_duplicate=True)
except docker.errors.APIError as error:
    seen["duplicate"] = [error.status_code, error.explanation]

service = client.services.create(
    image,
    name="web",
    labels={"app": "shop"},
    env=["A=1"],
    mounts=[Mount("/data", "data", type="volume")],
    networks=["back"],
    resources=Resources(mem_limit=64 << 20, cpu_reservation=1000000),
    restart_policy=RestartPolicy(condition="on-failure", delay=1),
    mode=ServiceMode("replicated", replicas=2),
    update_config=UpdateConfig(parallelism=0, monitor=int(1e9), order="stop-first"),
    endpoint_spec=EndpointSpec(ports={8085: 8080}),
    constraints=["node.labels.zone==a"],
)


def running(count, of=None):
    tasks = service.tasks(filters={"desired-state": "running"})
    fit = [
        task
        for task in tasks
        if task["Status"]["State"] == "running" and of in (None, task["Spec"]["ContainerSpec"]["Image"])
    ]
    return len(tasks) == count and len(fit) == count and fit


tasks = eventually("two tasks run", lambda: running(2))
seen["services"] = [each.name for each in client.services.list(filters={"label": "app=shop"})]
seen["slots"] = sorted(task["Slot"] for task in tasks)

service.scale(3)
eventually("three tasks run", lambda: running(3))
service.reload()
service.update(image=image2, fetch_current_spec=True)
eventually("three tasks of the new image run", lambda: running(3, image2))
service.reload()
seen["image"] = service.attrs["Spec"]["TaskTemplate"]["ContainerSpec"]["Image"] == image2
seen["previous"] = service.attrs["PreviousSpec"]["TaskTemplate"]["ContainerSpec"]["Image"] == image

try:
    client.services.get("nobody")
except docker.errors.NotFound as error:
    seen["notFound"] = error.explanation

# Plain containers, through the same socket.
seen["run"] = client.containers.run(image, entrypoint=["/bin/busybox", "echo", "hello"], remove=True).decode()
container = client.containers.run(
    image, entrypoint=["/bin/busybox", "sh", "-c", "echo one; echo two >&2; exit 3"], detach=True
)
seen["exit"] = container.wait()["StatusCode"]
seen["stdout"] = container.logs(stdout=True, stderr=False).decode()
seen["stderr"] = container.logs(stdout=False, stderr=True).decode()
container.remove()
seen["labelled"] = len(client.containers.list(filters={"label": "com.docker.swarm.service.name=web"}))

service.remove()
eventually("its containers are gone", lambda: not client.api.containers(filters={"label": "com.docker.swarm.service.name=web"}))
network.remove()
eventually("the network's removal is told", lambda: ["network", "remove", "back"] in events)
seen["live"] = events

until = int(time.time()) + 1
past = client.events(since=started - 1, until=until, decode=True, filters={"type": "service", "service": "web"})
seen["past"] = [[event["Action"], event["scope"]] for event in past]

client.swarm.leave(force=True)
print(json.dumps(seen))
