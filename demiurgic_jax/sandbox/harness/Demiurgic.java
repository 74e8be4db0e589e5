import java.io.FileInputStream;
import java.io.FileOutputStream;
import java.lang.reflect.InvocationTargetException;

/** Calls the tests' main. The token is read before any class of theirs is loaded, and lives in a local variable. */
final class Demiurgic {
    public static void main(String[] arguments) throws Throwable {
        byte[] token = new byte[32];
        try (FileInputStream job = new FileInputStream("/proc/self/fd/" + arguments[0])) {
            for (int got = 0; got < token.length; ) {
                int part = job.read(token, got, token.length - got);
                if (part < 0) System.exit(70);
                got += part;
            }
        }
        try (FileOutputStream report = new FileOutputStream("/proc/self/fd/" + arguments[1])) {
            for (String name : arguments[2].split(",")) {
                for (String shadowed : new String[] {"java.lang.", "java.util.", "java.util.stream.", "java.math."}) {
                    if (exists(shadowed + name)) {
                        System.err.println("the candidate gives " + name + " another meaning");
                        System.exit(73);
                    }
                }
            }
            try {
                Class.forName("Main").getMethod("main", String[].class).invoke(null, (Object) new String[0]);
            } catch (InvocationTargetException error) {
                error.getCause().printStackTrace();
                Runtime.getRuntime().halt(1);
            }
            System.out.flush();
            report.write(token);
        }
        Runtime.getRuntime().halt(0);
    }

    private static boolean exists(String name) {
        try {
            Class.forName(name, false, null);
            return true;
        } catch (ClassNotFoundException | LinkageError error) {
            return false;
        }
    }
}
