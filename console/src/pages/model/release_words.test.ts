import { expect, test } from "vitest"
import { Channel, ReleaseState } from "../../gen/steersman/v1/release_service_pb"
import { described, nameOf } from "./release_words"

const told = (channel: Channel, state: ReleaseState, share = 0) =>
  described({ version: "v", name: "n", channel, state, share })

test("what a release does is said by channel, state and share", () => {
  const { STABLE, CANARY } = Channel
  expect(told(STABLE, ReleaseState.SERVING, 1)).toBe("answers all calls")
  expect(told(STABLE, ReleaseState.SERVING, 0.95)).toContain("the other 95%")
  expect(told(CANARY, ReleaseState.SERVING, 0.05)).toBe("answers 5% of sessions, as canary")
  expect(told(CANARY, ReleaseState.SERVING, 0)).toContain("that name it alone")
  expect(told(CANARY, ReleaseState.LOADING)).toContain("canary")
  expect(told(STABLE, ReleaseState.REFUSED)).toBe("was refused")
  expect(told(STABLE, 99 as ReleaseState)).toBe("")
})

test("a bundle whose manifest was not read goes by its folder", () => {
  expect(nameOf({ version: "", name: "n" })).toBe("n")
})
