"""Make a voice smaller and faster: prune, distill, quantize, and say what each step really reached."""
