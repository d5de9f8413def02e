import { expect, test } from "vitest"
import { cleaned } from "./pasted"

test("what is pasted is a token, however it was copied", () => {
  for (const text of ["abc.def", " abc.def\n", "Bearer abc.def", "authorization: bearer abc\n .def"])
    expect(cleaned(text)).toBe("abc.def")
  for (const text of ["", "  ", "Bearer ", "töken", "a\u0000b"]) expect(cleaned(text)).toBe("")
})
