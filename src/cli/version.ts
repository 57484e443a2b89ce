/** The version of the command and the package. */
export const VERSION = "0.1.0";
