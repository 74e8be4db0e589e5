"""The stages of the main job, one file each; `order` lists them."""
