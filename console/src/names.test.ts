import { expect, test } from "vitest"
import { featureName, points, share, times } from "./names"

test.each([
  ["like Alien; Aliens; Blade Runner", "Like Alien, Aliens and Blade Runner"],
  ["like Alien", "like Alien"],
  ["Horror, as in The Blob", "Horror, as in The Blob"],
  ["no clear meaning", "No clear meaning (feature 9)"],
  ["", "No clear meaning (feature 9)"],
])("%s", (label, name) => expect(featureName(label, 9)).toBe(name))

test("numbers are as exact as they are sure", () => {
  expect([share(0), share(0.0004), share(0.004), share(0.4)]).toEqual(["0%", "0.04%", "0.4%", "40%"])
  expect([points(0.366), points(-0.011), points(0.001)]).toEqual(["+37 points", "−1 point", "0 points"])
  expect([times(0.672), times(12.4)]).toEqual(["0.7 ×", "12 ×"])
})
