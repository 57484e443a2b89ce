/** Random command lines, DSNs and configuration files, as many as the project's bars say; every figure is printed. */
import { test } from "node:test";
import { fuzzDsns, fuzzFiles, type FuzzSize, fuzzVectors } from "./support/cli_fuzz.ts";

const size: FuzzSize = { vectors: 100_000, dsns: 100_000, files: 20_000, runs: 2_000 };

test("random command lines are run or refused", () => fuzzVectors(size));

test("random DSNs are read or refused, and show no password", () => fuzzDsns(size));

test("random YAML files are read or refused, and show no password", () => fuzzFiles(size));
