import { expect, test } from "vitest"
import { after, began, EMPTY, quantile, rates, WINDOW, type Counters, type Histogram } from "./rates"

const histogram = (...cumulative: number[]): Histogram => ({
  bounds: [0.01, 0.02, 0.05],
  cumulative: cumulative.slice(0, 3),
  sum: 0,
  count: cumulative[3] ?? cumulative[2] ?? 0,
})

function counters(time: number, calls: number, more: Partial<Counters> = {}): Counters {
  return {
    time,
    uptime_seconds: time,
    calls: [{ service: "s", method: "Recommend", code: "OK", count: calls }],
    recommend_seconds: histogram(calls, calls, calls),
    recommendations: { plain: calls, steered: 0 },
    list_change: { sum: 0, count: 0 },
    queue_wait_seconds: histogram(0, 0, 0),
    session_cache: { hits: 0, misses: 0 },
    ...more,
  }
}

test("a quantile lies within its bucket by proportion", () => {
  const before = histogram(5, 5, 5)
  expect(quantile(before, histogram(5, 15, 15), 0.5)).toBeCloseTo(0.015)
  expect(quantile(before, histogram(15, 15, 15), 1)).toBeCloseTo(0.01)
  expect(quantile(before, before, 0.5)).toBeNull()
  // Most lie above the last bound.
  expect(quantile(before, histogram(5, 5, 5, 25), 0.5)).toBe(0.05)
})

test("rates are differences by time", () => {
  const before = counters(100, 10)
  const now = counters(104, 30, {
    calls: [
      { service: "s", method: "Recommend", code: "OK", count: 22 },
      { service: "s", method: "Recommend", code: "ResourceExhausted", count: 8 },
      { service: "s", method: "Recommend", code: "InvalidArgument", count: 4 },
    ],
    recommendations: { plain: 15, steered: 15 },
    list_change: { sum: 3, count: 10 },
    session_cache: { hits: 3, misses: 1 },
  })
  const told = rates(before, now)
  expect([told.calls, told.failed, told.recommendations]).toEqual([6, 2, 5])
  expect([told.steered, told.change, told.cacheHits]).toEqual([0.75, 0.3, 0.75])
  expect(told.queue).toBeNull()
})

test("of an idle server shares and latencies are not known", () => {
  const told = rates(counters(0, 5), counters(2, 5))
  expect([told.calls, told.p50, told.steered, told.change]).toEqual([0, null, null, null])
})

test("a restart gives no negative rate, and breaks the line", () => {
  let past = after(after(EMPTY, counters(10, 100)), counters(12, 120))
  expect(past.rates.map(({ calls }) => calls)).toEqual([10])
  past = after(past, counters(14, 3, { uptime_seconds: 1 }))
  past = after(past, counters(16, 7, { uptime_seconds: 3 }))
  expect(past.rates.map(({ calls }) => calls)).toEqual([10, null, 2])
  expect(past.restarts).toBe(1)
})

test("a process that counts anew is seen although the server has not restarted", () => {
  expect(began(counters(10, 100), counters(12, 60, { uptime_seconds: 12 }))).toBe(true)
  expect(began(counters(10, 100), counters(12, 100))).toBe(false)
})

test("a pause is a gap, not a rate over it", () => {
  let past = after(after(EMPTY, counters(10, 0)), counters(12, 4))
  past = after(after(past, counters(100, 1000)), counters(102, 1010))
  expect(past.rates.map(({ calls }) => calls)).toEqual([2, null, 5])
})

test("the same reading twice is one", () => {
  const past = after(after(EMPTY, counters(10, 0)), counters(12, 4))
  expect(after(past, counters(12, 4))).toBe(past)
})

test("ten minutes are kept, and a rate is over a few readings", () => {
  let past = EMPTY
  for (let time = 0; time <= 1000; time += 2) past = after(past, counters(time, time))
  expect(past.rates.length).toBe(300)
  expect(past.readings.length).toBe(WINDOW + 1)
})
