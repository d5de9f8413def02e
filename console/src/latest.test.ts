import { expect, test } from "vitest"
import { Latest } from "./latest"

test("one call is in flight, and the newest question comes next", async () => {
  const asked: number[] = []
  const answered: number[] = []
  let release: (() => void)[] = []
  const latest = new Latest<number, number>(
    async (question) => {
      asked.push(question)
      await new Promise<void>((resolve) => release.push(resolve))
      return 10 * question
    },
    (answer) => void answered.push(answer),
    () => undefined,
  )
  for (const question of [1, 2, 3]) latest.put(question)
  expect(asked).toEqual([1])
  release.shift()?.()
  await new Promise((resolve) => setTimeout(resolve))
  expect(asked).toEqual([1, 3])
  release.shift()?.()
  await new Promise((resolve) => setTimeout(resolve))
  expect(answered).toEqual([10, 30])
})

test("a call that failed does not hold up the next", async () => {
  const answered: number[] = []
  const failures: unknown[] = []
  const latest = new Latest<number, number>(
    async (question) => {
      if (question === 1) throw new Error("no")
      return question
    },
    (answer) => void answered.push(answer),
    (error) => void failures.push(error),
  )
  latest.put(1)
  latest.put(2)
  await new Promise((resolve) => setTimeout(resolve))
  expect([answered, failures.length]).toEqual([[2], 1])
})
