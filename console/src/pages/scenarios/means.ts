// What each control did, on average over lists.

import { GoalStatus, type RecommendResponse } from "../../gen/steersman/v1/recommendation_service_pb"

export interface Mean {
  /** Shares of the list, where the control is about a set of items. */
  before?: number
  after?: number
  /** Lists for which it had a goal, and those for which it was reached. */
  goals: number
  reached: number
  /** That was applied. */
  strength: number
}

export function means(responses: Pick<RecommendResponse, "receipt">[]): Mean[] {
  const receipts = responses.flatMap(({ receipt }) => (receipt ? [receipt.controls] : []))
  const controls = Math.min(...receipts.map(({ length }) => length))
  if (!receipts.length) return []
  return Array.from({ length: controls }, (_, index) => {
    const mine = receipts.map((each) => each[index]!)
    const goals = mine.filter(({ goal }) => goal !== GoalStatus.UNSPECIFIED)
    return {
      before: mean(mine.map(({ shareBefore }) => shareBefore)),
      after: mean(mine.map(({ shareAfter }) => shareAfter)),
      goals: goals.length,
      reached: goals.filter(({ goal }) => goal === GoalStatus.REACHED).length,
      strength: mean(mine.map(({ appliedStrength }) => appliedStrength)) ?? 0,
    }
  })
}

function mean(values: (number | undefined)[]): number | undefined {
  const given = values.filter((value) => value !== undefined)
  return given.length ? given.reduce((sum, value) => sum + value, 0) / given.length : undefined
}
