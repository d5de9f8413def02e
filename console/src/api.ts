// The server's API: a client for each service, and errors as people read them.

import { Code, ConnectError, createClient, type Interceptor } from "@connectrpc/connect"
import { createConnectTransport } from "@connectrpc/connect-web"
import { ExplanationService } from "./gen/steersman/v1/explanation_service_pb"
import { FeatureService } from "./gen/steersman/v1/feature_service_pb"
import { ItemService } from "./gen/steersman/v1/item_service_pb"
import { ModelService } from "./gen/steersman/v1/model_service_pb"
import { RecommendationService } from "./gen/steersman/v1/recommendation_service_pb"
import { ReleaseService } from "./gen/steersman/v1/release_service_pb"
import { ScenarioService } from "./gen/steersman/v1/scenario_service_pb"
import { SessionService } from "./gen/steersman/v1/session_service_pb"
import { root } from "./root"
import { demand, headers, token } from "./token"

/** Sends the token with each call, and asks for another one where the server refuses it. */
const signed: Interceptor = (next) => async (call) => {
  const sent = token()
  for (const [name, value] of Object.entries(headers())) call.header.set(name, value)
  try {
    return await next(call)
  } catch (error) {
    const { code, rawMessage } = ConnectError.from(error)
    if (code === Code.Unauthenticated) demand(sent, rawMessage)
    throw error
  }
}

const transport = createConnectTransport({
  baseUrl: root.href.replace(/\/$/, ""),
  useBinaryFormat: true,
  interceptors: [signed],
})

export const explanations = createClient(ExplanationService, transport)
export const features = createClient(FeatureService, transport)
export const items = createClient(ItemService, transport)
export const model = createClient(ModelService, transport)
export const recommendations = createClient(RecommendationService, transport)
export const releases = createClient(ReleaseService, transport)
export const scenarios = createClient(ScenarioService, transport)
export const sessions = createClient(SessionService, transport)

/** What went wrong with a call. */
export interface Problem {
  title: string
  detail: string
  /** Which fields of the request are wrong, and why. */
  fields: { field: string; description: string }[]
  /** "VERSION_CONFLICT"; empty if the server does not say. */
  reason: string
  code: Code
  /** The server cannot be reached, or asks to come back later: the same call may do. */
  temporary: boolean
}

const TITLES: Partial<Record<Code, string>> = {
  [Code.InvalidArgument]: "This request is not valid",
  [Code.NotFound]: "There is no such thing",
  [Code.FailedPrecondition]: "This belongs to another bundle",
  [Code.Aborted]: "It was changed by someone else meanwhile",
  [Code.ResourceExhausted]: "The server has too much to do",
  [Code.Unavailable]: "The server cannot be reached",
  [Code.DeadlineExceeded]: "The answer took too long",
  [Code.Unauthenticated]: "The server wants to know who calls",
  [Code.PermissionDenied]: "You may not do this",
  [Code.Unimplemented]: "This server is older and does not know this call",
}

/** Where the reason says more than the code. */
const REASON_TITLES: Record<string, string> = {
  SESSION_STORE_UNAVAILABLE: "What the server keeps cannot be reached",
  RELEASE_REFUSED: "The bundle was refused",
  RELEASE_CHANGING: "Another bundle is being loaded",
  RELEASES_FIXED: "What is served cannot be changed here",
  NO_CANARY: "There is no such canary any more",
  NO_RELEASE_BEFORE: "There is nothing to go back to",
  NOT_EXPLAINABLE: "This bundle is too old to be explained",
}

interface Detail {
  type?: string
  debug?: {
    fieldViolations?: { field?: string; description?: string }[]
    reason?: string
    metadata?: { role?: string; given_role?: string }
  }
}

export function problem(error: unknown): Problem {
  const failure = ConnectError.from(error)
  // A connection that was refused has no code of its own.
  const network = error instanceof TypeError || failure.cause instanceof TypeError
  const code = network ? Code.Unavailable : failure.code
  const details = failure.details as Detail[]
  const info = details.map((detail) => detail.debug).find((debug) => debug?.reason)
  const reason = info?.reason ?? ""
  const { role, given_role: given } = info?.metadata ?? {}
  const missing = reason === "ROLE_MISSING" && role
  return {
    title: missing ? `This needs the role ${role}` : (REASON_TITLES[reason] ?? TITLES[code] ?? "The call failed"),
    detail: network
      ? "No answer from the server."
      : missing
        ? `You have the role ${given}. Who runs the server gives roles.`
        : failure.rawMessage,
    fields: details.flatMap((detail) =>
      (detail.debug?.fieldViolations ?? []).map((each) => ({
        field: each.field ?? "",
        description: each.description ?? "",
      })),
    ),
    reason,
    code,
    temporary: [Code.Unavailable, Code.ResourceExhausted, Code.DeadlineExceeded].includes(code),
  }
}

export const cancelled = (error: unknown): boolean => ConnectError.from(error).code === Code.Canceled
