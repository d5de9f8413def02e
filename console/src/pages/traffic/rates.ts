// Rates from counters: what the server has counted since its start, read every two seconds.

export interface Histogram {
  bounds: number[]
  /** Observations of at most each bound; those above the last are in `count` alone. */
  cumulative: number[]
  sum: number
  count: number
}

/** As /metrics.json gives it. */
export interface Counters {
  /** Seconds since 1970. */
  time: number
  uptime_seconds: number | null
  calls: { service: string; method: string; code: string; count: number }[]
  recommend_seconds: Histogram
  recommendations: { plain: number; steered: number }
  list_change: { sum: number; count: number }
  queue_wait_seconds: Histogram
  session_cache: { hits: number; misses: number }
}

/** What went on in the seconds before `time`. null: nothing was counted of which it could be told. */
export interface Rates {
  time: number
  /** A second. */
  calls: number | null
  recommendations: number | null
  /** Calls that did not end well, a second. */
  failed: number | null
  /** Milliseconds. */
  p50: number | null
  p95: number | null
  p99: number | null
  queue: number | null
  /** 0 to 1. */
  steered: number | null
  change: number | null
  cacheHits: number | null
}

/** Each rate is over so many readings: a single one of two seconds jumps. */
export const WINDOW = 5
const KEPT_SECONDS = 600
/** Without a reading for so long, there is a gap. */
const GAP_SECONDS = 8
/** Codes by which a caller is told that a request is wrong or of no use any more: no failure of the server. */
const CALLERS = new Set([
  "OK",
  "InvalidArgument",
  "NotFound",
  "FailedPrecondition",
  "Aborted",
  "Cancelled",
  "Unimplemented",
])

const total = (calls: Counters["calls"], wanted: (call: Counters["calls"][number]) => boolean): number =>
  calls.reduce((sum, call) => (wanted(call) ? sum + call.count : sum), 0)

const failedCalls = ({ calls }: Counters) => total(calls, ({ code }) => !CALLERS.has(code))
const allCalls = ({ calls }: Counters) => total(calls, () => true)
const recommended = ({ recommendations: { plain, steered } }: Counters) => plain + steered

/** Whether the server began to count anew, or one of its processes did. */
export function began(before: Counters, after: Counters): boolean {
  const counts = (each: Counters) => [
    allCalls(each),
    each.recommend_seconds.count,
    recommended(each),
    each.list_change.count,
    each.queue_wait_seconds.count,
    each.session_cache.hits,
  ]
  const now = counts(after)
  const isLess = counts(before).some((count, index) => count > now[index]!)
  return isLess || (after.uptime_seconds ?? 0) + 1 < (before.uptime_seconds ?? 0)
}

/** The value below which this share of the observations between two readings lies, within a bucket by proportion. null: there were none. */
export function quantile(before: Histogram, after: Histogram, share: number): number | null {
  const count = after.count - before.count
  if (count <= 0 || !after.bounds.length) return null
  const wanted = share * count
  let under = 0
  let least = 0
  for (const [index, bound] of after.bounds.entries()) {
    const upTo = (after.cumulative[index] ?? 0) - (before.cumulative[index] ?? 0)
    if (upTo >= wanted && upTo > under) return least + ((wanted - under) / (upTo - under)) * (bound - least)
    under = upTo
    least = bound
  }
  // Above the last bound nothing is known but that.
  return least
}

const ratio = (part: number, whole: number): number | null => (whole > 0 ? part / whole : null)

const milliseconds = (seconds: number | null): number | null => (seconds === null ? null : 1000 * seconds)

export function rates(before: Counters, after: Counters): Rates {
  const seconds = after.time - before.time
  const perSecond = (more: number) => (seconds > 0 ? Math.max(0, more) / seconds : null)
  const latency = (share: number) => milliseconds(quantile(before.recommend_seconds, after.recommend_seconds, share))
  const hits = after.session_cache.hits - before.session_cache.hits
  const misses = after.session_cache.misses - before.session_cache.misses
  return {
    time: after.time,
    calls: perSecond(allCalls(after) - allCalls(before)),
    recommendations: perSecond(recommended(after) - recommended(before)),
    failed: perSecond(failedCalls(after) - failedCalls(before)),
    p50: latency(0.5),
    p95: latency(0.95),
    p99: latency(0.99),
    queue: milliseconds(quantile(before.queue_wait_seconds, after.queue_wait_seconds, 0.95)),
    steered: ratio(
      after.recommendations.steered - before.recommendations.steered,
      recommended(after) - recommended(before),
    ),
    change: ratio(after.list_change.sum - before.list_change.sum, after.list_change.count - before.list_change.count),
    cacheHits: ratio(hits, hits + misses),
  }
}

const nothing = (time: number): Rates => ({
  time,
  calls: null,
  recommendations: null,
  failed: null,
  p50: null,
  p95: null,
  p99: null,
  queue: null,
  steered: null,
  change: null,
  cacheHits: null,
})

/** The last ten minutes. A value, so that a page is drawn again with the next one. */
export interface Past {
  /** Those that the next rate is computed from: none from before a restart or a gap. */
  readings: Counters[]
  rates: Rates[]
  restarts: number
}

export const EMPTY: Past = { readings: [], rates: [], restarts: 0 }

export function after(past: Past, reading: Counters): Past {
  const last = past.readings.at(-1)
  // The same scrape again.
  if (last && reading.time <= last.time && !began(last, reading)) return past
  const isAnew = last !== undefined && began(last, reading)
  const isGap = last !== undefined && reading.time - last.time > GAP_SECONDS
  const kept = past.rates.filter(({ time }) => time > reading.time - KEPT_SECONDS && time < reading.time)
  const restarts = past.restarts + (isAnew ? 1 : 0)
  // A line is broken where something is missing.
  if (isAnew || isGap) return { readings: [reading], rates: [...kept, nothing(reading.time)], restarts }
  if (!last) return { readings: [reading], rates: kept, restarts }
  const readings = [...past.readings, reading].slice(-WINDOW - 1)
  return { readings, rates: [...kept, rates(readings[0]!, reading)], restarts }
}
