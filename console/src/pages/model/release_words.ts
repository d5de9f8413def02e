// What a release does, in words.

import { percent } from "../../format"
import { Channel, ReleaseState, type Release } from "../../gen/steersman/v1/release_service_pb"

export type Told = Pick<Release, "version" | "name" | "channel" | "state" | "share">

/** Its version, or the name of its folder where the version is not known. */
export const nameOf = ({ version, name }: Pick<Release, "version" | "name">): string => version || name

export function described({ channel, state, share }: Told): string {
  const isCanary = channel === Channel.CANARY
  switch (state) {
    case ReleaseState.SERVING:
      if (isCanary)
        return share
          ? `answers ${percent(share)} of sessions, as canary`
          : "answers calls that name it alone, as canary"
      return share < 1 ? `answers the other ${percent(share)}, and all calls without a session` : "answers all calls"
    case ReleaseState.LOADING:
      return isCanary ? "is being loaded, to be the canary" : "is being loaded"
    case ReleaseState.DRAINING:
      return "finishes the calls that began with it"
    case ReleaseState.BEFORE:
      return "was served before"
    case ReleaseState.REFUSED:
      return isCanary ? "was refused as canary" : "was refused"
    default:
      return ""
  }
}
