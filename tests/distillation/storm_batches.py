class Batches:
    def __init__(self, storm):
        self.storm = storm

    def handle(self, *a):
        return None
