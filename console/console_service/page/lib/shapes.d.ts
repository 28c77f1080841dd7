/** What the console's API responds with. */

export type State = "up" | "late" | "down";

export interface Session {
  username: string;
  csrf_token: string;
}

export interface Replica {
  name: string;
  service: string;
  state: State;
  since: string | number;
  uptime_seconds: number | null;
  restarts: number;
  workers: number;
  requests_per_second: number;
  p95_ms: number | null;
  errors_per_second: number;
  memory_bytes: number | null;
  sparkline: number[];
}

export interface Overview {
  at: string | number;
  replicas: Replica[];
  stores: { name: string; state: State | "degraded"; seen_by: string[] }[];
  outbox: { service: string; waiting: number; oldest_seconds: number | null; dead_letters: number }[];
  breakers: { service: string; peer: string; state: string }[];
  keys: { pair: string; age_seconds: number | null }[];
  release: { service: string; weight: number } | null;
}

export interface MapNode {
  id: string;
  kind: "gateway" | "service" | "store";
  state: State;
}

export interface MapEdge {
  from: string;
  to: string;
  calls_per_second: number;
  failures_per_second: number;
  p95_ms: number | null;
  sealed: boolean;
}

export interface SystemMap {
  nodes: MapNode[];
  edges: MapEdge[];
}

export interface RequestItem {
  request_id: string;
  at: string | number;
  service: string;
  replica: string;
  method: string;
  route: string;
  path: string;
  status: number;
  ms: number;
  user_id: string | null;
  caller: string | null;
  trace_id: string | null;
}

export interface Span {
  span_id: string;
  parent_id: string | null;
  service: string;
  replica: string;
  name: string;
  kind: string;
  start_ms: number;
  duration_ms: number;
  failed: boolean;
  attributes: Record<string, unknown>;
}

export interface LogLine {
  id: string;
  at: string | number;
  level: string;
  service: string;
  replica: string;
  logger: string | null;
  message: string;
  request_id: string | null;
  trace_id: string | null;
  traceback: string | null;
  fields: Record<string, unknown>;
}

export interface RequestDetail {
  request: RequestItem;
  spans: Span[];
  logs: LogLine[];
  curl: string;
}

export interface Exemplar {
  trace_id: string;
  request_id: string | null;
  ms: number;
  at: string | number;
}

export interface RouteFigures {
  service: string;
  method: string;
  route: string;
  requests_per_second: number;
  error_ratio: number;
  p50_ms: number | null;
  p95_ms: number | null;
  p99_ms: number | null;
  exemplars: Exemplar[];
}

export type Values = (number | null)[];

export interface Routes {
  routes: RouteFigures[];
  series: { at: number[]; routes: Record<string, { rate: Values; p50: Values; p95: Values; p99: Values; errors: Values }> };
}

export interface Account {
  id: string;
  username: string;
  email?: string;
  role: string;
  created_at?: string;
  email_verified?: boolean;
  sessions?: AccountSession[] | null;
}

export interface AccountSession {
  id: string;
  created_at?: string;
  last_used_at?: string;
  user_agent?: string | null;
  client?: string | null;
  ip_address?: string | null;
}

export interface Data {
  counts: { service: string; name: string; value: number }[];
  by_type: Record<string, number>;
  series: { type: string; items: { start: string; count: number }[] }[];
}

export interface DeadLetter {
  id: string;
  destination: string;
  type: string;
  occurred_at: string;
  attempts: number;
  error: string | null;
}

export interface Events {
  services: {
    service: string;
    destinations: { destination: string; waiting: number; oldest_seconds: number | null }[];
    dead_letters: DeadLetter[];
  }[];
}

export interface MailItem {
  id: string;
  to: string;
  subject: string;
  at: string | number;
}

export interface Keys {
  pairs: { pair: string; key_id: string | null; age_seconds: number | null; loaded_by: Record<string, string> }[];
  rotation: { state: "idle" | "running" | "done" | "failed"; lines: string[] };
  can_rotate: boolean;
  command: string;
}

export interface AuditEntry {
  id: string;
  at: string;
  actor_id: string;
  actor: string;
  action: string;
  target: string;
  outcome: "started" | "done" | "failed";
  detail: string | null;
}
