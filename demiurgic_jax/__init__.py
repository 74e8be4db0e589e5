"""Demiurgic: distil code LLMs of 7B-70B parameters from a teacher, on any JAX device mesh.

Each sub-package is one room of the house; docs/architecture.md is the plan of it. Importing this
package imports none of them, so that the parts that speak only HTTP and files start without JAX.
"""

__version__ = "0.1.0"
