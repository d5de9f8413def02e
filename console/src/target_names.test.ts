import { expect, test } from "vitest"
import { attributeName } from "./target_names"

test.each([
  ["co_consumption", "Alien / Aliens", "audience: Alien / Aliens"],
  ["co_consumption", "", "audience"],
  ["exposure", "", "times shown"],
  ["main_genre", "Horror", "main genre: Horror"],
])("%s %s", (name, value, shown) => expect(attributeName({ name, value })).toBe(shown))
