/** Random command lines, DSNs and configuration files in small: a sample of `cli_fuzz_long_test.ts` for every run. */
import { test } from "node:test";
import { fuzzDsns, fuzzFiles, type FuzzSize, fuzzVectors } from "./support/cli_fuzz.ts";

const size: FuzzSize = { vectors: 5_000, dsns: 5_000, files: 1_000, runs: 100 };

test("a sample of random command lines is run or refused", () => fuzzVectors(size));

test("a sample of random DSNs is read or refused, and shows no password", () => fuzzDsns(size));

test("a sample of random YAML files is read or refused, and shows no password", () => fuzzFiles(size));
