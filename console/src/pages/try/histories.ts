// Requests with another history.

import { create } from "@bufbuild/protobuf"
import { HistorySchema, type History } from "../../gen/steersman/v1/recommendation_service_pb"
import { changed, type Request } from "../../request"

export const historyOf = (itemIds: string[], eventsBefore = 0n): History =>
  create(HistorySchema, { itemIds, eventsBefore })

/** The request with another history, and no session. */
export const withHistory = (request: Request, history: History | undefined): Request =>
  changed(request, (copy) => {
    copy.history = history
    copy.sessionId = ""
    copy.fallbackHistory = undefined
    copy.newEvents = []
    copy.minSessionVersion = 0n
  })

export const withSession = (request: Request, sessionId: string): Request =>
  changed(withHistory(request, undefined), (copy) => void (copy.sessionId = sessionId))

/** The request with a history from which the latest event of each of these items is gone. */
export function withoutEvents(request: Request, itemIds: readonly string[]): Request {
  const { history } = request
  if (!history) return request
  const kept = [...history.itemIds]
  for (const id of itemIds) {
    const place = kept.lastIndexOf(id)
    if (place >= 0) kept.splice(place, 1)
  }
  return withHistory(request, { ...history, itemIds: kept })
}
