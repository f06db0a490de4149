/** A compose file of the wild: every key that a service of it may have and that Drover takes today. */
export const everything = (image: string, quiet = 'quiet') => `
version: "3.9"
x-common: &common
  image: ${image}
  logging: { driver: none }
services:
  quiet:
    <<: *common
    environment: { SAYS: ${quiet} }
  web:
    image: ${image}
    entrypoint: ["/bin/sh", "-c", 'echo "started: $$*"; exec "$$@"', "entry"]
    command: ["/bin/httpd", "-f", "-p", "0.0.0.0:8080", "-h", "/www"]
    environment:
      PLAIN: a value
      EQUALS: a=b
      SLOT: "{{.Task.Slot}}"
      WHERE: "{{.Node.Hostname}}"
      SERVICE: "{{.Service.Name}}"
      TASK: "{{.Task.Name}}"
      LABEL: '{{index .Service.Labels "org.example.on"}}'
    user: "65534:65534"
    working_dir: /tmp/work
    hostname: "web-{{.Task.Slot}}-{{.Node.Hostname}}"
    labels: { org.example.on: container }
    extra_hosts: ["db.example:192.0.2.7", "cache.example:192.0.2.8"]
    dns: 192.0.2.53
    dns_search: [corp.example]
    init: true
    read_only: true
    stop_signal: SIGUSR1
    stop_grace_period: 3s
    cap_add: [NET_ADMIN]
    cap_drop: [MKNOD, NET_RAW]
    sysctls: { net.core.somaxconn: 1024 }
    ulimits: { nproc: 512, nofile: { soft: 1000, hard: 2000 } }
    logging: { driver: json-file, options: { max-size: 1m, max-file: "3", tag: web } }
    ports: ["8084:8080"]
    volumes:
      - /etc:/host/etc:ro
      - data:/data
      - { type: volume, source: ram, target: /ram }
      - { type: tmpfs, target: /tmp, tmpfs: { size: 8388608 } }
    deploy:
      replicas: 2
      labels: { org.example.on: service }
      placement: { constraints: ["node.labels.disk == fast"] }
      resources:
        limits: { cpus: "0.5", memory: 64M, pids: 50 }
        reservations: { cpus: "0.1", memory: 32M }
volumes:
  data:
    name: "data-{{.Service.Name}}-{{.Task.Slot}}"
    labels: { org.example.keep: "yes" }
  ram:
    driver: local
    driver_opts: { type: tmpfs, device: tmpfs, o: "size=1m,uid=65534" }
`;
