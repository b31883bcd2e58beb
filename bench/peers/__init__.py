"""What the gate is compared with, each as small as its documentation has it."""
