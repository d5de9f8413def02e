// Which controls apps may add to a scenario.

import { create } from "@bufbuild/protobuf"
import { PickControl } from "../../components/controls"
import type { Control } from "../../gen/steersman/v1/control_pb"
import { AttributeRefSchema } from "../../gen/steersman/v1/control_pb"
import {
  PolicyRuleSchema,
  PolicySchema,
  type Policy,
  type PolicyRule,
  type Scenario,
} from "../../gen/steersman/v1/scenario_service_pb"
import { useKnown } from "../../known"
import { plain, type Names } from "../../target_names"
import { NumberField } from "./control_row"
import { edited, ruleName } from "./text"

type Choice = "any" | "none" | "some"

const CHOICES: Record<Choice, string> = {
  any: "Anything",
  none: "Nothing: the list is as published",
  some: "Only these",
}

export function PolicyFields({ draft, set, names }: { draft: Scenario; set: (draft: Scenario) => void; names: Names }) {
  const { policy } = draft
  const choice: Choice = !policy ? "any" : policy.rules.length ? "some" : "none"
  const choose = (next: Choice) =>
    set(
      edited(draft, (copy) => {
        const rules = next === "some" ? (policy?.rules.length ? policy.rules : ownRules(draft)) : []
        copy.policy = next === "any" ? undefined : create(PolicySchema, { rules })
      }),
    )
  return (
    <section class="card" aria-label="Who may steer">
      <fieldset class="choices">
        <legend>What apps that use this scenario may turn up and down beside it</legend>
        {(Object.keys(CHOICES) as Choice[]).map((one) => (
          <label key={one} class="check">
            <input type="radio" name="policy" value={one} checked={choice === one} onChange={() => choose(one)} />
            {CHOICES[one]}
          </label>
        ))}
      </fieldset>
      {policy && choice === "some" && (
        <Rules policy={policy} names={names} write={(change) => set(edited(draft, (copy) => change(copy.policy!)))} />
      )}
      <p class="note">A rule of order, not of security: the server does not know who calls.</p>
    </section>
  )
}

/** What the scenario steers itself is a good beginning; otherwise any concept. */
function ownRules({ controls }: Scenario): PolicyRule[] {
  const rules = controls.map(ruleFor)
  return rules.length ? rules : [create(PolicyRuleSchema, { target: { case: "concept", value: "*" } })]
}

function ruleFor({ target }: Control): PolicyRule {
  switch (target.case) {
    case "concept":
      return create(PolicyRuleSchema, { target: { case: "concept", value: target.value } })
    case "attribute":
      return create(PolicyRuleSchema, { target: { case: "attribute", value: target.value } })
    case "feature":
      return create(PolicyRuleSchema, { target: { case: "anyFeature", value: true } })
    default:
      return create(PolicyRuleSchema, { target: { case: "anyItemsOrWords", value: true } })
  }
}

function Rules({
  policy,
  names,
  write,
}: {
  policy: Policy
  names: Names
  write: (change: (policy: Policy) => void) => void
}) {
  const { concepts, info } = useKnown()
  const { attributes } = info
  const valued = attributes.filter((name) => concepts.some((concept) => concept.attribute === name && concept.value))
  const wide: { key: string; label: string; rule: PolicyRule }[] = [
    {
      key: "concepts",
      label: "any concept",
      rule: create(PolicyRuleSchema, { target: { case: "concept", value: "*" } }),
    },
    ...valued.map((name) => ({
      key: `concepts of ${name}`,
      label: `concepts of ${plain(name)}`,
      rule: create(PolicyRuleSchema, { target: { case: "concept", value: `${name}:*` } }),
    })),
    ...attributes.map((name) => ({
      key: `attribute ${name}`,
      label: `any ${plain(name)} of the catalogue`,
      rule: create(PolicyRuleSchema, { target: { case: "attribute", value: create(AttributeRefSchema, { name }) } }),
    })),
    {
      key: "features",
      label: "any feature",
      rule: create(PolicyRuleSchema, { target: { case: "anyFeature", value: true } }),
    },
    {
      key: "items",
      label: "items and words",
      rule: create(PolicyRuleSchema, { target: { case: "anyItemsOrWords", value: true } }),
    },
  ]
  return (
    <div class="rules">
      {policy.rules.map((rule, index) => (
        <div class="row" key={index}>
          <span class="grow">{ruleName(rule, names)}</span>
          <NumberField
            label="up to (0: any strength)"
            value={rule.mostStrength}
            least={0}
            change={(strength) => write((it) => (it.rules[index]!.mostStrength = strength))}
          />
          <button
            type="button"
            class="icon"
            aria-label={`Remove the rule for ${ruleName(rule, names)}`}
            onClick={() => write((it) => it.rules.splice(index, 1))}
          >
            ×
          </button>
        </div>
      ))}
      <PickControl
        label="Allow something by name"
        choose={(control) => write((it) => it.rules.push(ruleFor(control)))}
      />
      <label class="way">
        <span class="visually-hidden">Allow a whole kind</span>
        <select
          value=""
          onChange={({ currentTarget }) => {
            const found = wide.find(({ key }) => key === currentTarget.value)
            if (found) write((it) => it.rules.push(found.rule))
          }}
        >
          <option value="">Or allow a whole kind</option>
          {wide.map(({ key, label }) => (
            <option key={key} value={key}>
              {label}
            </option>
          ))}
        </select>
      </label>
    </div>
  )
}
