// What else does the same to lists, and what does the opposite.

import { address } from "../route"
import { features } from "../api"
import { useCall } from "../calls"
import type { ListNeighboursRequest, Neighbour } from "../gen/steersman/v1/feature_service_pb"
import { signed } from "../format"
import { useKnown } from "../known"
import { featureName } from "../names"
import { conceptName } from "../target_names"
import { Bars } from "./bars"
import { Answer } from "./states"

const SIZE = 8
// Weaker ones are chance.
const LEAST_LIKENESS = 0.15

export function Neighbours({ of }: { of: ListNeighboursRequest["of"] }) {
  const key = of.case === "feature" ? of.value.id : of.value
  const call = useCall((signal) => features.listNeighbours({ of, size: SIZE }, { signal }), [of.case, key])
  return (
    <Answer call={call} lines={5}>
      {({ alike, opposed }) => (
        <div class="neighbours">
          <div>
            <h3>Does the same</h3>
            <p class="note">Turned up together, they double each other.</p>
            <Likenesses neighbours={alike} label="Does the same" />
          </div>
          <div>
            <h3>Does the opposite</h3>
            <p class="note">Turned up together, they undo each other.</p>
            <Likenesses neighbours={opposed} label="Does the opposite" />
          </div>
        </div>
      )}
    </Answer>
  )
}

function Likenesses({ neighbours, label }: { neighbours: Neighbour[]; label: string }) {
  const known = useKnown()
  const shown = neighbours.filter(({ likeness }) => Math.abs(likeness) >= LEAST_LIKENESS)
  if (!shown.length) return <p class="muted">Nothing that is close.</p>
  const link = ({ of, label: name }: Neighbour) => {
    if (of.case === "concept") {
      return (
        <>
          <a href={address("concepts", { name: of.value })}>{conceptName(known, of.value)}</a>
          <span class="chip">concept</span>
        </>
      )
    }
    const id = of.value ?? 0
    return <a href={address("features", { id: `${id}` })}>{featureName(name, id)}</a>
  }
  const bars = shown.map((neighbour) => ({
    key: `${neighbour.of.case}:${neighbour.of.value}`,
    label: link(neighbour),
    amount: neighbour.likeness,
    text: signed(neighbour.likeness),
  }))
  return <Bars bars={bars} label={label} />
}
